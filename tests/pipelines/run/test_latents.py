"""The step of latents: which SAEs get an index, and that it is made once."""

import pytest

from scopeworks.evaluate.latents.files.folder import open_index
from scopeworks.pipelines.run.runner import run_suite
from scopeworks.pipelines.run.work import work_of
from scopeworks.pipelines.steps.latents import index_folders
from scopeworks.pipelines.suite.outputs import Outputs
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.tests.pipelines.small_suite import write_suite

ASKED = ["latents.rows=3_000"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = write_suite(tmp_path_factory.mktemp("latents"))
    run_suite(SuiteFile(path, ASKED))
    return path


def test_a_suite_has_the_step_only_where_it_asks_for_it(path):
    plain, asked = Outputs(SuiteFile(path)), Outputs(SuiteFile(path, ASKED))
    assert "latents" not in [one.step for one in work_of(plain)]
    assert [one.n_shares for one in work_of(asked) if one.step == "latents"] == [2]
    with pytest.raises(ValueError, match=r"step latents must be asked for .* add a table \[lat"):
        run_suite(SuiteFile(path), only="latents")


def test_the_middle_sae_of_every_site_gets_an_index_of_its_own_rows(path):
    folders = index_folders(Outputs(SuiteFile(path, ASKED)))
    assert [name.split("-")[0] for name in folders] == ["mlp_out.1", "resid_post.1"]
    for name, folder in folders.items():
        assert "sparsity_0.003" in name
        index = open_index(folder)
        assert index.manifest.sae.site == name.split("-")[0]
        assert index.manifest.rows == 3_072
    everyone = Outputs(SuiteFile(path, [*ASKED, 'latents.of="all"']))
    assert len(index_folders(everyone)) == 4
    assert set(folders.items()) < set(index_folders(everyone).items())


def test_an_index_is_made_once_and_again_for_other_rows(path):
    file = SuiteFile(path, ASKED)
    assert [one.done for one in run_suite(file)] == ["before"] * 7
    before = index_folders(Outputs(file))
    after = index_folders(Outputs(SuiteFile(path, ["latents.rows=2_000"])))
    assert before.keys() == after.keys() and not set(before.values()) & set(after.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("latents.of=best", r"\[latents\]: of must be"),
        ("latents.row=5", r"\[latents\]: .*row"),
        ("latents.sae=x", r"\[latents\]: sae is filled in by the suite"),
    ],
)
def test_a_wrong_table_is_refused_before_anything_runs(path, change, message):
    with pytest.raises(ValueError, match=message):
        Outputs(SuiteFile(path, [change]))
