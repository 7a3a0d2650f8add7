"""The presets against the report's Table 1, written out here slot by slot."""

from collections import Counter
from pathlib import Path

import pytest

from scopeworks.pipelines.suite.members import SuiteMember, members_of
from scopeworks.pipelines.suite.outputs import Outputs
from scopeworks.pipelines.suite.settings import SuiteFile

B = 10**9
KINDS = ("attn_out", "mlp_out", "resid_post")


def everywhere(kinds: tuple[str, ...], layers: int, width: int, tokens: int) -> dict:
    """A row of the table whose sites are all layers'."""
    return {(f"{k}.{layer}", width): tokens for k in kinds for layer in range(layers)}


def residual(layers: tuple[int, ...], widths: tuple[int, ...], tokens: int) -> dict:
    """A row of the table at the residual stream of some layers."""
    return {(f"resid_post.{layer}", 2**w): tokens for layer in layers for w in widths}


TABLE_1 = {
    "gemma-scope-2b": {
        **everywhere(KINDS, 26, 2**14, 4 * B),
        **everywhere(("transcoder_in",), 26, 2**14, 4 * B),
        **everywhere(KINDS, 26, 2**16, 8 * B),
        **residual((12,), (15, 17, 18, 19), 8 * B),
        **residual((5, 12, 19), (20,), 16 * B),
    },
    "gemma-scope-9b": {
        **everywhere(KINDS, 42, 2**14, 4 * B),
        **everywhere(KINDS, 42, 2**17, 8 * B),
        **residual((20,), (15, 16, 18, 19), 8 * B),
        **residual((9, 20, 31), (20,), 16 * B),
    },
    "gemma-scope-27b": residual((10, 22, 34), (17,), 8 * B),
    "gemma-scope-9b-it": {
        **residual((9, 20, 31), (14,), 4 * B),
        **residual((9, 20, 31), (17,), 8 * B),
    },
}


def members(name: str) -> list[SuiteMember]:
    return members_of(SuiteFile(Path(name)))


@pytest.fixture(scope="module")
def expanded() -> dict[str, list[SuiteMember]]:
    return {name: members(name) for name in TABLE_1}


@pytest.mark.parametrize("name", TABLE_1)
def test_a_preset_has_every_slot_of_the_table_and_no_other(expanded, name):
    slots = Counter((str(m.site), m.values["width"]) for m in expanded[name])
    assert slots.keys() == TABLE_1[name].keys()
    assert set(slots.values()) == {5}
    for member in expanded[name]:
        wanted = TABLE_1[name][str(member.site), member.values["width"]]
        assert member.rows == pytest.approx(wanted, rel=1e-6)
        assert member.values.get("batch", 4096) == 4096 and "lr" not in member.values
        layer = member.site.layer
        target = f"mlp_out.{layer}" if member.site.kind == "transcoder_in" else "None"
        assert str(member.target_site) == target


def test_four_billion_tokens_are_about_a_million_updates(expanded):
    steps = {m.values["steps"] for m in expanded["gemma-scope-2b"] if m.rows < 5 * B}
    assert len(steps) == 1 and steps.pop() == pytest.approx(1e6, rel=0.03)


def test_all_presets_together_are_the_reports_two_thousand_saes(expanded):
    found = [member for many in expanded.values() for member in many]
    assert len(found) == 2285
    slots = {(name, key) for name, table in TABLE_1.items() for key in table}
    assert sum(width for _, (_, width) in slots) == 34_357_248


@pytest.mark.parametrize("name", TABLE_1)
def test_every_site_is_harvested_with_as_many_rows_as_its_saes_read(expanded, name):
    file = SuiteFile(Path(name))
    rows = [table["rows"] for table in file.suite.harvest]
    for member in expanded[name]:
        assert min(rows[i] for i in member.harvests) >= member.rows * (1 - 1e-6)
    sizes = {table["bucket_rows"] for table in file.suite.harvest}
    assert sizes == {2**20}
    # Documents of turns stand alone: padding counts as tokens and gives no row.
    margin = 2.0 if "packing" in file.suite.text else 1.004
    assert file.suite.text["tokens"] > margin * max(rows)


def test_the_instruction_tuned_model_reads_turns():
    file = SuiteFile(Path("gemma-scope-9b-it"))
    assert file.suite.model == "google/gemma-2-9b-it" and file.suite.text["packing"] == "chat"


def test_a_weekend_on_one_gpu():
    found = members("one-gpu-weekend")
    assert [member.values["target_l0"] for member in found] == [10, 15, 25, 40, 60, 80, 120, 200]
    assert {(str(m.site), m.values["width"]) for m in found} == {("resid_post.12", 16_384)}
    assert {member.rows for member in found} == {122_070 * 4096}


@pytest.mark.parametrize("name", [*TABLE_1, "one-gpu-weekend", "demo"])
def test_every_table_of_a_preset_is_settings_of_its_stage(name, tmp_path):
    outputs = Outputs(SuiteFile(Path(name), [f"out={tmp_path}"]))
    assert sum(len(group) for group in outputs.groups) == len(outputs.members)
    assert not list(tmp_path.iterdir())
