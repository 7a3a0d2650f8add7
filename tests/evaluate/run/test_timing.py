"""timing.json beside evaluations."""

import json

import pytest

from scopeworks.evaluate.run import evaluate_saes
from scopeworks.evaluate.run.timing import write_timing


def test_times_are_beside_the_evaluation_and_not_in_it(settings, model_dir, sae_dir, tokens_url):
    given = {"sae": (str(sae_dir),), "model": str(model_dir), "tokens": tokens_url}
    result = evaluate_saes(settings.model_copy(update=given))
    assert "seconds" not in json.dumps(result)
    times = json.loads((settings.out.parent / "timing.json").read_text())
    assert list(times) == ["e.json"]
    assert [group["saes"] for group in times["e.json"]["groups"]] == [["sae"]]
    assert times["e.json"]["seconds"] >= times["e.json"]["groups"][0]["seconds"] >= 0


def test_each_evaluation_of_a_folder_has_its_entry(tmp_path):
    (tmp_path / "timing.json").touch()  # an empty file is nobody's
    for name, seconds in (("a.json", 1.0), ("b.json", 2.0), ("a.json", 3.0)):
        write_timing(tmp_path / name, {"seconds": seconds, "groups": []})
    times = json.loads((tmp_path / "timing.json").read_text())
    assert {name: entry["seconds"] for name, entry in times.items()} == {
        "a.json": 3.0,
        "b.json": 2.0,
    }


@pytest.mark.parametrize(
    "text", ["[1, 2, 3]", '{"a": ', '{"minutes": 3.5}', '{"a.json": {"seconds": "mine"}}']
)
def test_another_file_of_that_name_is_left_alone_before_the_run(settings, text):
    path = settings.out.with_name("timing.json")
    path.write_text(text)
    with pytest.raises(ValueError, match=r"timing\.json beside out must be a table of evaluations"):
        evaluate_saes(settings)  # whose SAE, model and tokens are not there: nothing was read
    assert path.read_text() == text and not settings.out.exists()


def test_a_folder_in_the_place_of_the_times_is_said_before_the_run(settings):
    settings.out.with_name("timing.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"timing\.json beside out must be a file"):
        evaluate_saes(settings)
    assert not settings.out.exists()


def test_an_evaluation_is_not_called_like_the_file_of_times(settings):
    out = settings.out.with_name("timing.json")
    with pytest.raises(ValueError, match=r"out must not be called timing\.json"):
        evaluate_saes(settings.model_copy(update={"out": out}))
    assert not out.exists()
