"""Suites that are derived for a study: what changes, and what is shared with the user's own."""

from pathlib import Path

import pytest

from scopeworks.evaluate.studies.choices import bandwidth
from scopeworks.evaluate.studies.table import study_named
from scopeworks.evaluate.study.study import LackError, Variant
from scopeworks.pipelines.studies.variants import SPARSITIES, check_enough, derived, scene_of
from scopeworks.pipelines.suite.outputs import Outputs
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.tests.pipelines.small_suite import suite


def test_a_scene_tells_the_suites_saes(tmp_path):
    scene = scene_of(suite(tmp_path), full=True)
    assert scene.sites == ("mlp_out.1", "resid_post.1") and scene.n_layers == 6
    assert scene.site == "resid_post.1" and scene.layer == 1 and scene.full
    assert scene.widths == (32,) and scene.prices == {"sparsity": [3e-3, 6e-3]}
    assert scene.sparsity == 6e-3 and scene.settings["steps"] == 12
    assert not {"width", "sparsity", "seed"} & set(scene.settings)
    assert (scene.n_sequences, scene.context) == (4, 64)


def test_bandwidths_are_around_what_the_recipe_gives_the_suites_site(tmp_path):
    file = suite(tmp_path)
    file.suite = file.suite.model_copy(update={"train": file.suite.train | {"recipe": "auto"}})
    scene = scene_of(file)
    outputs = Outputs(file)
    own = outputs.train_settings(outputs.members[0], ["store"]).bandwidth
    _, others = bandwidth.variants(scene)
    assert scene.d_in == 128 and own > 0.05
    assert others.sae[-1]["bandwidth"] == pytest.approx(10 * own, rel=1e-5)


def test_a_suite_that_is_steered_has_the_reports_prices_where_they_must_match(tmp_path):
    file = suite(tmp_path)
    (table,) = file.suite.sae
    steered = {k: v for k, v in table.items() if k != "sparsity"} | {"target_l0": [10.0, 20.0]}
    file.suite = file.suite.model_copy(update={"sae": (steered,)})
    scene = scene_of(file)
    assert scene.prices == {"target_l0": [10.0, 20.0]} and scene.sparsities == SPARSITIES


def test_saes_that_both_ask_for_are_shared(tmp_path):
    file = suite(tmp_path)
    table = {"site": "resid_post.1", "width": [16, 32], "sparsity": 3e-3}
    new = derived(file, Variant("v", sae=[table]))
    own, other = Outputs(file), Outputs(new)
    keys = {own.sae_key(member) for member in own.members}
    assert [other.sae_key(member) in keys for member in other.members] == [False, True]
    assert file.suite.sae != new.suite.sae  # the user's is as it was
    assert (own.rows_key(0), own.tokens_key) == (other.rows_key(0), other.tokens_key)


def test_settings_of_a_variant_win(tmp_path):
    file = SuiteFile(Path("demo"), ["sae.tokens=2048", 'harvest.site="resid_post.3"'])
    file.suite = file.suite.model_copy(
        update={"train": {k: v for k, v in file.suite.train.items() if k != "steps"}}
    )
    new = derived(
        file,
        Variant(
            "v",
            text={"context": 128},
            harvest={"bucket_rows": 512},
            train={"steps": 7},
            evaluate={"importance": True},
            model="other",
        ),
    ).suite
    assert [table["steps"] for table in new.sae] == [7] and "tokens" not in new.sae[0]
    assert new.harvest[0]["site"] == "resid_post.3" and "site" not in new.harvest[1]
    assert {table["bucket_rows"] for table in new.harvest} == {512}
    assert new.evaluate == {"top_latents": 0, "n_sequences": 128, "importance": True}
    assert (new.text["context"], new.model) == (128, "other")


def test_what_a_variant_asks_for_wrongly_names_the_table(tmp_path):
    new = derived(suite(tmp_path), Variant("v", sae=[{"site": "resid_post.9", "width": 16}]))
    with pytest.raises(ValueError, match=r"suite .*suite.toml, \[\[sae\]\] 1: .*resid_post.9"):
        Outputs(new)


@pytest.mark.parametrize(
    ("own", "kept"), [({}, False), ({"importance": True}, True), ({"top_latents": 2}, True)]
)
def test_the_suites_seed_is_left_out_where_it_has_no_effect(tmp_path, own, kept):
    file = suite(tmp_path)
    file.suite = file.suite.model_copy(update={"evaluate": {"seed": 3}})
    new = derived(file, Variant("v", evaluate=own))
    assert new.suite.evaluate.get("seed") == (3 if kept else None)
    Outputs(new)  # its settings are as evaluate takes them


@pytest.mark.parametrize("study", ["frontier", "importance"])
def test_saes_of_two_widths_are_no_ladder_of_prices(study):
    with pytest.raises(LackError, match="at one site and width, got one at each of 2; more"):
        check_enough(
            study_named(study), [("resid_post.3", 512, 0), ("resid_post.3", 2048, 1)], "more"
        )
    same = [("resid_post.3", 512, 0), ("resid_post.3", 512, 1)]
    check_enough(study_named(study), same, "more")
