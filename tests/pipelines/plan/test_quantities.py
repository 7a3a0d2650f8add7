"""The plan's arithmetic against the report's figures and against sums written out."""

from pathlib import Path

import pytest

from scopeworks.pipelines.plan.quantities import BITS, Quantities, quantities
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.store.format.chunks.codecs import PRESETS

TIB, PIB = 2**40, 2**50
REPORT = ("gemma-scope-2b", "gemma-scope-9b", "gemma-scope-27b", "gemma-scope-9b-it")


def plan(name: str | Path, *changes: str, text_bytes: int | None = None) -> dict[str, Quantities]:
    return {q.step: q for q in quantities(SuiteFile(Path(name), changes), text_bytes)}


@pytest.fixture(scope="module")
def presets() -> dict[str, dict[str, Quantities]]:
    return {name: plan(name) for name in REPORT}


def test_a_slot_of_131k_at_9b_is_the_reports_hundred_tebibytes():
    one = ['sae.site="resid_post.20"', "harvest.rows=8_000_000_000", 'harvest.site="resid_post.20"']
    found = plan("gemma-scope-9b-it", *one)["harvest"]
    assert found.float32_bytes == 8e9 * 3584 * 4
    assert found.float32_bytes / TIB == pytest.approx(100, rel=0.05)
    assert found.written["stores"] / found.float32_bytes == pytest.approx(11 / 32, rel=0.002)


def test_three_sites_of_2b_and_9b_at_8b_tokens():
    sites = 'harvest=[{site=["attn_out.*", "mlp_out.*", "resid_post.*"], rows=8_000_000_000}]'
    sae = 'sae=[{site=["attn_out.*", "mlp_out.*", "resid_post.*"], width=65536, tokens=8e9}]'
    names = ("gemma-scope-2b", "gemma-scope-9b")
    found = [plan(name, sites, sae)["harvest"].float32_bytes for name in names]
    assert sum(found) / PIB == pytest.approx(18.36, abs=0.01)  # the report: about 17


def test_all_presets_are_the_reports_twenty_pebibytes(presets):
    extra = {  # layers whose widest SAEs read 16B tokens store as many again
        "gemma-scope-2b": 4e9 * 26 * 2304 + 8e9 * 3 * 2304,
        "gemma-scope-9b": 8e9 * 3 * 3584,
        "gemma-scope-27b": 8e9 * 3 * 4608,
        "gemma-scope-9b-it": 8e9 * 3 * 3584,
    }
    values = 8e9 * (26 * (2048 + 2 * 2304) + 42 * (4096 + 2 * 3584)) + sum(extra.values())
    total = sum(found["harvest"].float32_bytes for found in presets.values())
    assert total == pytest.approx(4 * values, rel=1e-9)
    assert total / PIB == pytest.approx(20, rel=0.05)
    ours = sum(found["harvest"].written["stores"] for found in presets.values())
    assert ours / PIB == pytest.approx(7.0, abs=0.1)


def test_training_is_counted_update_by_update(presets):
    steps = round(8e9 / 4096)
    dense = 15 * steps * 12 * 4608 * 131_072 * 4096
    assert presets["gemma-scope-27b"]["train"].report_flops == pytest.approx(dense, rel=1e-9)
    own = 15 * steps * 4096 * (2 * 4608 * 131_072 + 8 * 4608 * 100)
    assert presets["gemma-scope-27b"]["train"].flops == pytest.approx(own, rel=1e-9)
    # The report's 6.3e22 (over a fifth of GPT-3's 3.14e23) would take six prices a slot.
    assert sum(f["train"].report_flops for f in presets.values()) == pytest.approx(6e22, rel=0.05)


def test_a_stream_is_read_once_for_those_that_share_it():
    alone = plan("one-gpu-weekend", "sae.target_l0=[40]")["train"]
    eight = plan("one-gpu-weekend")["train"]
    assert eight.rows == 8 * alone.rows and eight.read_bytes == alone.read_bytes
    assert alone.read_bytes == pytest.approx(122_070 * 4096 * 2304 * 11 / 8)


def test_a_stream_is_read_again_by_every_group():
    once = plan("gemma-scope-27b", "sae.together=5")["train"]
    thrice = plan("gemma-scope-27b", "sae.together=2")["train"]
    assert once.flops == thrice.flops and thrice.read_bytes == 3 * once.read_bytes


def test_bytes_are_those_of_the_tables_codec():
    assert BITS.keys() == PRESETS.keys()
    exact = plan("one-gpu-weekend")
    fast = plan("one-gpu-weekend", 'harvest.codec="fast"')
    assert fast["train"].read_bytes / exact["train"].read_bytes == pytest.approx(16 / 11)
    values = 5e8 * 2304
    more = fast["harvest"].written["stores"] - exact["harvest"].written["stores"]
    assert more == pytest.approx(values * 5 / 8)
    with pytest.raises(
        ValueError, match=r"\[\[harvest\]\] 1: codec must be one of exact, .*'lossy'"
    ):
        plan("one-gpu-weekend", 'harvest.codec="lossy"')


def test_padding_is_computed_and_gives_no_row():
    turns = plan("gemma-scope-9b-it")["harvest"]
    packed = plan("gemma-scope-9b-it", 'text.packing="concatenate"')["harvest"]
    assert turns.flops == pytest.approx(2 * packed.flops) and turns.written == packed.written


def test_rows_follow_from_the_text_where_nobody_says_them(tmp_path):
    path = tmp_path / "suite.toml"
    path.write_text(
        'name = "x"\nmodel = "google/gemma-2-2b"\nout = "x"\n[text]\nsources = ["a"]\n'
        '[[sae]]\nsite = "resid_post.3"\nwidth = 64\nsteps = 20000\n'
    )
    with pytest.raises(ValueError, match=r"\[\[harvest\]\] 1: rows must be given to plan before"):
        plan(path)
    found = plan(path, text_bytes=7_000_000)
    assert found["tokenize"].tokens == 2_000_000
    assert found["harvest"].rows == pytest.approx(2e6 * 0.95 * 1023 / 1024)
