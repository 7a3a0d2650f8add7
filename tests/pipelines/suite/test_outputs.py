"""Keys and settings of evaluations that are on another model or other tokens than the suite's."""

import shutil

import numpy as np
import pytest

from scopeworks.harvest.model.files import model_place
from scopeworks.pipelines.suite.outputs import Outputs
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.store import TokenStore
from scopeworks.tests.pipelines.small_suite import write_suite


def outputs(path, *changes) -> Outputs:
    return Outputs(SuiteFile(path, changes))


@pytest.fixture
def talk(tmp_path):
    """A token store beside the suite."""
    url = str(tmp_path / "talk")
    tokens = TokenStore.create(url, context=8, bos=2, eos=1, pad=0)
    tokens.write({"held_out": np.full((2, 8), 7)})
    return url


def test_evaluation_may_be_on_another_model_and_other_tokens(tmp_path, talk):
    path = write_suite(tmp_path)
    changes = ('evaluate.model="tiny_gemma2_it"', f'evaluate.tokens="{talk}"')
    other = outputs(path, *changes, "evaluate.other_model=true")
    settings = other.evaluate_settings(other.members)
    assert (settings.model, settings.tokens) == (model_place("tiny_gemma2_it"), talk)
    own = outputs(path)
    assert own.evaluate_settings(own.members).model == model_place("tiny_gemma2")
    member = own.members[0]
    assert own.sae_key(member) == other.sae_key(member)


def test_evaluations_key_is_of_all_that_is_measured_on(tmp_path, talk):
    path, other = write_suite(tmp_path), tmp_path / "other"
    shutil.copytree(model_place("tiny_gemma2"), other)
    kinds = [
        (),
        ('evaluate.model="tiny_gemma2_it"', "evaluate.other_model=true"),
        (f'evaluate.tokens="{talk}"',),
        (f'evaluate.norms_of="{model_place("tiny_gemma2_it")}"',),
        (f'evaluate.norms_of="{other}"',),
    ]
    keys = [outputs(path, *kind) for kind in kinds]
    assert len({one.evaluation_key(one.members[0]) for one in keys}) == len(kinds)


def test_evaluations_key_has_no_place_in_it(tmp_path, talk):
    path = write_suite(tmp_path)
    moved = TokenStore.create(str(tmp_path / "moved"), context=8, bos=2, eos=1, pad=0)
    moved.write({"held_out": np.full((2, 8), 7)})
    both = [outputs(path, f'evaluate.tokens="{url}"') for url in (talk, moved.url)]
    assert len({one.evaluation_key(one.members[0]) for one in both}) == 1


@pytest.mark.parametrize(
    ("change", "table"),
    [
        ('evaluate.model="nosuch"', "evaluate"),
        ('evaluate.norms_of="./nosuch"', "evaluate"),
        ('twin.model="nosuch"', "twin"),
        ('twin.model="{tmp}"', "twin"),
    ],
)
def test_a_model_that_is_nowhere_is_said_with_its_table(tmp_path, change, table):
    change = change.format(tmp=tmp_path)
    message = rf"suite .*, \[{table}\]: model .*(nosuch does not exist|must hold a config.json)"
    with pytest.raises(ValueError, match=message):
        Outputs(SuiteFile(write_suite(tmp_path), [change]))


def test_a_models_norms_are_taken_by_the_name_that_ships(tmp_path):
    path = write_suite(tmp_path)
    by_name = Outputs(SuiteFile(path, ['evaluate.norms_of="tiny_gemma2_it"']))
    by_folder = Outputs(SuiteFile(path, [f'evaluate.norms_of="{model_place("tiny_gemma2_it")}"']))
    member = by_name.members[0]
    assert by_name.evaluation_key(member) == by_folder.evaluation_key(member)
