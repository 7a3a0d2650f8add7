from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scopeworks.arguments import dtype_name, number, path_of, several, whole
from scopeworks.evaluate import ExplainSettings, IndexSettings, ScoreSettings
from scopeworks.harvest import HarvestSettings
from scopeworks.settings import Settings


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint32(3), torch.tensor(3)])
def test_integers_of_any_library_are_whole_numbers(value):
    assert whole("n", value, 3) == 3 and type(whole("n", value)) is int


@pytest.mark.parametrize("value", [2, -1, True, 3.0, "3", None, [3], torch.tensor([3, 4])])
def test_what_is_no_whole_number_from_least_on_is_refused(value):
    with pytest.raises(ValueError, match="n must be a whole number from 3 on, got "):
        whole("n", value, 3)


def test_a_whole_number_may_have_an_end():
    assert whole("n", 7, below=8) == 7
    with pytest.raises(ValueError, match="n must be a whole number from 0 to 7, got 8"):
        whole("n", 8, below=8)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5)])
def test_numbers_of_any_library_are_numbers(value):
    assert number("x", value) == 0.5 and type(number("x", value)) is float


@pytest.mark.parametrize("value", ["0.5", b"1", None, float("nan"), [1.0], torch.tensor([1.0, 2])])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="x must be a number, got "):
        number("x", value)


@pytest.mark.parametrize("one", ["evaluation.json", Path("sae"), {"saes": []}, 7])
def test_one_thing_is_not_taken_for_its_letters_or_keys(one):
    assert several(one) == (one,) and several([one, one]) == (one, one) and several(()) == ()


@pytest.mark.parametrize("one", [np.array(0.1), torch.tensor(3)])
def test_an_array_without_dimensions_is_one(one):
    assert several(one) == (one,)


@pytest.mark.parametrize("value", ["sae", Path("sae")])
def test_texts_and_paths_are_paths(value):
    assert path_of("folder", value) == Path("sae")


@pytest.mark.parametrize("value", [5, None, b"sae", ["sae"]])
def test_what_is_no_path_is_refused(value):
    with pytest.raises(ValueError, match=r"^folder must be a path, got "):
        path_of("folder", value)


def test_dtypes_of_torch_go_by_their_names():
    assert dtype_name(torch.bfloat16) == dtype_name("bfloat16") == "bfloat16"
    assert dtype_name(5) == 5


@pytest.mark.parametrize(
    ("kind", "given", "name", "wanted"),
    [
        (ScoreSettings, {"scorer": "tokens"}, "scorer", ["tokens"]),
        (ExplainSettings, {"latents": 3, "explainer": "tokens"}, "latents", [3]),
        (ExplainSettings, {"latents": "3,17", "explainer": "tokens"}, "latents", [3, 17]),
        (ExplainSettings, {"latents": range(2), "explainer": "tokens"}, "latents", [0, 1]),
        (IndexSettings, {"compare": "other"}, "compare", ("other",)),
        (HarvestSettings, {"mask_token": 7}, "mask_token", [7]),
        (HarvestSettings, {"site": {"attn_out.1": 8}.keys()}, "site", ["attn_out.1"]),
        (HarvestSettings, {"site": np.array(["attn_out.1"])}, "site", ["attn_out.1"]),
    ],
)
def test_settings_that_are_lists_take_one(kind: type[Settings], given: Any, name: str, wanted: Any):
    known = {"index": "i", "sae": "s", "store": "a", "model": "m", "tokens": "t", "out": "o"}
    known |= {"site": "resid_post.1"} if kind is HarvestSettings else {}
    own = {key: value for key, value in known.items() if key in kind.model_fields}
    assert getattr(kind.model_validate(own | given), name) == wanted
