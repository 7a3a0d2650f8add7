"""A suite's grid: names, sites, harvests, streams, and what is wrong with a file."""

from pathlib import Path

import pytest

from scopeworks.pipelines.suite.members import groups_of, members_of
from scopeworks.pipelines.suite.outputs import Outputs
from scopeworks.pipelines.suite.settings import SuiteFile, presets
from scopeworks.train.recipe import of_length, of_site

HEAD = 'name = "x"\nmodel = "google/gemma-2-2b"\nout = "x"\n[text]\nsources = ["a.txt"]\n'


def suite(tmp_path: Path, body: str, *changes: str) -> SuiteFile:
    path = tmp_path / "suite.toml"
    path.write_text(HEAD + body, encoding="utf-8")
    return SuiteFile(path, changes)


def test_members_are_every_point_of_every_grid(tmp_path):
    file = suite(
        tmp_path,
        "[train]\nsteps = 20_000\n"
        '[[sae]]\nsite = ["resid_post.3", "mlp_out.0-1"]\nwidth = [64, 128]\nsparsity = [1e-3]\n'
        "target_l0 = [20]\nseed = [0, 1]\n",
    )
    members = members_of(file)
    assert len(members) == 3 * 2 * 2 * 2
    names = [member.name for member in members]
    assert names[0] == "mlp_out.0-width_64-sparsity_0.001"
    assert "resid_post.3-width_128-target_l0_20-seed_1" in names
    assert {member.values["stream_seed"] for member in members} == {0}
    groups = groups_of(members)
    assert [len(group) for group in groups] == [8, 8, 8]
    assert {len({m.site for m in group}) for group in groups} == {1}


def test_other_orders_of_rows_are_other_streams(tmp_path):
    table = '[[sae]]\nsite = "resid_post.3"\nwidth = 64\nsteps = 20000\nsparsity = [1e-3, 2e-3]\n'
    orders = ('name = "a"\nshuffle_rows = 1\n', 'name = "b"\nshuffle_rows = 9\n', "")
    members = members_of(suite(tmp_path, "".join(table + order for order in orders)))
    groups = [{m.values.get("shuffle_rows") for m in group} for group in groups_of(members)]
    assert groups == [{1}, {9}, {None}]


def test_tokens_become_updates(tmp_path):
    file = suite(
        tmp_path, '[[sae]]\nsite = "resid_post.0"\nwidth = 64\ntokens = 4e9\nsparsity = 1e-3\n'
    )
    (member,) = members_of(file)
    assert member.values["steps"] == round(4e9 / 4096)
    assert member.rows == member.values["steps"] * 4096


def test_transcoders_predict_a_kind_at_their_own_layer(tmp_path):
    file = suite(
        tmp_path,
        '[[sae]]\nsite = "transcoder_in.*"\ntarget_site = "mlp_out"\nwidth = 64\nsteps = 20000\n',
    )
    members = members_of(file)
    assert len(members) == 26
    assert str(members[7].site) == "transcoder_in.7" and str(members[7].target_site) == "mlp_out.7"


def test_a_table_without_site_takes_what_the_others_leave(tmp_path):
    file = suite(
        tmp_path,
        '[[harvest]]\nsite = "resid_post.5"\nrows = 100\n[[harvest]]\nrows = 10\n'
        '[[sae]]\nsite = ["resid_post.5", "mlp_out.5"]\nwidth = 64\nsteps = 20000\n',
    )
    assert {str(m.site): m.harvests for m in members_of(file)} == {
        "resid_post.5": (0,),
        "mlp_out.5": (1,),
    }


SAE = '[[sae]]\nsite = "resid_post.3"\nwidth = 64\nsteps = 20000\n'


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (SAE + "widht = 3\n", r"suite .*suite.toml, \[\[sae\]\] 1: .*did you mean 'width'"),
        (SAE + "[realese]\n", r"suite .*suite.toml: unknown setting 'realese'.*'release'"),
        (SAE + "[release]\nformts = 1\n", r"unknown setting 'release.formts'.*'formats'"),
        (SAE + "[train]\nstore = 'a'\n", r"\[\[sae\]\] 1: store is filled in by the suite"),
        (SAE + SAE, r"names must differ, got resid_post.3-width_64 twice"),
        (SAE.replace("resid_post.3", "resid_pst.3"), r"did you mean 'resid_post'"),
        (SAE.replace("resid_post.3", "resid_post.26"), r"the model has 26 layers"),
        (SAE + "tokens = 5\n", r"tokens and steps exclude each other"),
        (SAE.replace("64", "'many'"), r"\[\[sae\]\] 1: width must"),
        (SAE + "[harvest]\nsite = 'mlp_out.3'\n", r"\[\[harvest\]\]: .*resid_post.3"),
        (SAE + "target_site = 'mlp_uot'\n", r"target_site: .*did you mean 'mlp_out'"),
        (SAE + "target_site = 5\n", r"\[\[sae\]\] 1: target_site must be text"),
        (SAE + "name = '../x'\n", r"\[\[sae\]\] 1: name must be text that matches"),
        (SAE.replace("steps = 20000", "tokens = '4B'"), r"\[\[sae\]\] 1: tokens .*got '4B'"),
        (SAE.replace("steps", "batch = 'x'\ntokens"), r"\[\[sae\]\] 1: batch .*got 'x'"),
        (SAE + "[harvest]\nsite = 3\n", r"\[\[harvest\]\] 1: site must"),
    ],
)
def test_what_is_wrong_is_named_with_file_table_and_key(tmp_path, body, text):
    with pytest.raises(ValueError, match=text):
        members_of(suite(tmp_path, body))


def test_values_beside_the_file_win(tmp_path):
    file = suite(
        tmp_path, SAE, "sae.width=[8, 16]", "train.lr=1e-3", "name=other", "harvest.rows=5"
    )
    assert [m.values["width"] for m in members_of(file)] == [8, 16]
    assert file.suite.name == "other" and file.suite.harvest[0]["rows"] == 5
    with pytest.raises(ValueError, match=r"--set must be table.key=value"):
        suite(tmp_path, SAE, "train.lr")


def test_every_preset_is_a_suite():
    assert "demo" in presets()
    for path in presets().values():
        assert members_of(SuiteFile(path))


def test_a_file_that_changes_is_noticed(tmp_path):
    file = suite(tmp_path, SAE)
    file.check_unchanged()
    file.path.write_text(HEAD + SAE + "\n# more", encoding="utf-8")
    with pytest.raises(ValueError, match="has changed since this run began"):
        file.check_unchanged()


def test_a_start_of_the_price_is_no_point_of_the_grid(tmp_path):
    file = suite(
        tmp_path,
        "[train]\nsparsity = 2e-4\nsteps = 20000\n"
        '[[sae]]\nsite = "resid_post.3"\nwidth = 64\ntarget_l0 = [10, 20]\n',
    )
    members = members_of(file)
    assert [member.values["target_l0"] for member in members] == [10, 20]
    assert {member.values["sparsity"] for member in members} == {2e-4}


def test_tables_say_how_many_are_trained_together(tmp_path):
    body = SAE + "sparsity = [1e-3, 2e-3, 3e-3]\n" + "together = 2\n"
    file = suite(tmp_path, body + SAE.replace("64", "32") + "sparsity = [1e-3, 2e-3, 3e-3]\n")
    assert [len(group) for group in groups_of(members_of(file))] == [2, 1, 3]
    with pytest.raises(ValueError, match=r"\[\[sae\]\] 1: together .* greater than 0, got 0"):
        members_of(suite(tmp_path, SAE + "together = 0\n"))


def test_sites_of_two_harvests_are_joined(tmp_path):
    file = suite(
        tmp_path,
        '[[harvest]]\nsite = "transcoder_in.*"\nrows = 100\n[[harvest]]\nrows = 200\n'
        '[[sae]]\nsite = "transcoder_in.4"\ntarget_site = "mlp_out"\nwidth = 64\nsteps = 20000\n',
    )
    (member,) = members_of(file)
    assert member.harvests == (0, 1)


def test_a_recipe_is_resolved_for_every_site_and_keys_go_by_what_it_gave(tmp_path):
    sae = '[[sae]]\nsite = ["resid_post.3", "attn_out.3"]\nwidth = 64\n'
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    places = (f"out={tmp_path}", f'text.sources="{tmp_path / "a.txt"}"')
    length = ("model=tiny_gemma2", "train.steps=1500", "train.batch=1024", *places)
    by_recipe = Outputs(suite(tmp_path, sae, *length, "train.recipe=auto"))
    for member, d in zip(by_recipe.members, (160, 128), strict=True):
        settings = by_recipe.train_settings(member, ["s"])
        given = of_length(1_500) | of_site(1_500, 1_024, d)
        assert {name: getattr(settings, name) for name in given} == given
        by_hand = Outputs(
            suite(tmp_path, sae, *length, *(f"train.{n}={v}" for n, v in given.items()))
        )
        assert by_hand.sae_key(member) == by_recipe.sae_key(member)
