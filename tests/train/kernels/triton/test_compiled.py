"""The Triton kernels as a GPU would get them: compiled ahead of time, no device needed.

Checks what the interpreter cannot show, since it runs one thread: that no thread stores what
another has yet to load, that addresses are computed in 64 bits, that rows stay in registers.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed (extra: triton)")
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
pytestmark = pytest.mark.skipif(
    not (TOOLS / "cuobjdump").exists(), reason="triton came without NVIDIA's tools"
)

KERNELS = {
    "count_entries",
    "fill_entries",
    "count_proposals",
    "fill_proposals",
    "keep_entries",
    "count_fired",
    "pass_rows",
    "update_touched",
    "add_groups",
}
# Loaded and stored by the same kernel: what a barrier must stand between.
SHARED = {
    "keep_entries": {"rows", "length"},
    "pass_rows": {"residual"},
    # W_enc's rows, b_enc, W_dec and θ, and their moments.
    "update_touched": {"last_update"}
    | {f"{group}.{k}" for group in ("latents", "moments") for k in range(4)},
}


def compiled(arch: int, d: int, cache: Path) -> list[dict[str, Any]]:
    """A record per compiled kernel; see `triton_compiled`."""
    # For its own process: the interpreter is chosen when triton is imported.
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(cache)
    module = "scopeworks.tests.reference.triton_compiled"
    command = [sys.executable, "-W", "error", "-m", module, "--arch", str(arch), "--d", str(d)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def widest(tmp_path_factory) -> list[dict[str, Any]]:
    """The kernels on an H100 at the width of Gemma 2 9B."""
    return compiled(90, 3584, tmp_path_factory.mktemp("triton"))


def operations(ttir: str) -> Iterator[tuple[str, str, list[str], str]]:
    """(result, operation, operands, line) of every line of a kernel in Triton's own language."""
    for line in ttir.splitlines():
        found = re.match(r'\s*(?:(%[\w$.]+)(?::\d+)? = )?"?([a-z]\w*\.[\w.]+)"?(.*)', line)
        if found:
            operands = re.findall(r"%[\w$.]+", found[3].split(" : ")[0])
            yield found[1] or "", found[2], operands, line


def races(ttir: str) -> set[str]:
    """Arguments of a kernel that are stored to with no barrier since they were loaded."""
    argument: dict[str, str] = {}
    loaded: set[str] = set()
    found = set()
    for result, operation, operands, _ in operations(ttir):
        base = argument.get(operands[0], operands[0]).lstrip("%") if operands else ""
        if operation in ("tt.addptr", "tt.splat", "tt.broadcast", "tt.expand_dims"):
            argument[result] = base
        elif operation == "tt.load":
            loaded.add(base)
        elif "barrier" in operation:
            loaded.clear()
        elif operation == "tt.store" and base in loaded:
            found.add(base)
    return found


def narrow_addresses(ttir: str) -> list[str]:
    """Multiplications in 32 bits that end in an address."""
    made = {
        result: (operation, operands, line)
        for result, operation, operands, line in operations(ttir)
    }
    found, seen = [], set()
    waiting = [operands[1] for _, name, operands, _ in operations(ttir) if name == "tt.addptr"]
    while waiting:
        value = waiting.pop()
        if value in seen or value not in made:
            continue
        seen.add(value)
        operation, operands, line = made[value]
        if operation == "arith.muli" and re.search(r"\bi32\b|xi32", line.split(" : ")[1]):
            found.append(line)
        if operation != "tt.load":  # a number from memory is what it is
            waiting += operands
    return found


def test_every_kernel_is_compiled_once(widest):
    """Also over steps 1, 2, 16 and 17, whose numbers Triton would tell apart."""
    names = [row["kernel"] for row in widest]
    assert set(names) == KERNELS
    # float32 and bfloat16 products; with and without a copy of the weights.
    twice = {"count_entries", "fill_entries", "update_touched"}
    assert {name for name in names if names.count(name) != 1} == twice
    assert max(names.count(name) for name in names) == 2


def test_no_thread_stores_what_another_has_yet_to_load(widest):
    for row in widest:
        assert races(row["ttir"]) == set(), row["kernel"]
        without = "\n".join(line for line in row["ttir"].splitlines() if "barrier" not in line)
        assert races(without) == SHARED.get(row["kernel"], set()), row["kernel"]
        # They are there to the end.
        assert row["barriers"] >= row["ttir"].count("barrier"), row["kernel"]


def test_what_one_kernel_counts_and_another_writes_is_computed_as_it_is_written(widest):
    """PTX without a rounding mode (mul.f32) may be fused later, with .rn it may not."""
    pairs = [row for row in widest if re.match("(count|fill)_(entries|proposals)", row["kernel"])]
    assert len(pairs) == 6
    assert all(row["may_fuse"] == 0 for row in pairs)
    assert any(row["may_fuse"] for row in widest)


def test_addresses_are_computed_in_64_bits(widest):
    """2^20 latents of 3,584 numbers are 3.8e9."""
    for row in widest:
        assert narrow_addresses(row["ttir"]) == [], row["kernel"]
        if row["kernel"] != "count_fired":
            narrowed = re.sub(r"(arith.muli .* : .*)i64", r"\1i32", row["ttir"])
            assert narrow_addresses(narrowed), row["kernel"]


def test_rows_stay_in_registers(widest):
    for row in widest:
        assert row["stack_bytes"] == 0, (row["kernel"], row["registers"])
        large = row["kernel"] in ("pass_rows", "update_touched")
        assert row["warps"] == (8 if large else 4), row["kernel"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize(("d", "stack_bytes"), [(576, 8), (2304, 0), (3584, 0), (4608, 64)])
def test_rows_stay_in_registers_on_every_width(arch, d, stack_bytes, tmp_path):
    """8 bytes are a scalar that ptxas parks to fit one more block; at 4,608 and 255 registers a few
    values of the 8,192 wide row do not fit."""
    for row in compiled(arch, d, tmp_path):
        assert races(row["ttir"]) == set(), row["kernel"]
        assert row["stack_bytes"] <= stack_bytes, (row["kernel"], row["registers"])
