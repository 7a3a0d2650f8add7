"""Explanations and scores of an index, and what its page is given of them."""

import json
from pathlib import Path

import pytest

from scopeworks.evaluate.latents.files.explanations import (
    Explanations,
    LatentScore,
    Scores,
    Stratum,
    Value,
    origin,
    read_all,
    read_explanations,
    script,
    write_explanations,
    write_scores,
)
from scopeworks.tests.evaluate.latents import made_contents as made


@pytest.fixture(autouse=True)
def _index(tmp_path: Path) -> None:
    made.write(tmp_path, 8)


def said(explainer: str, **texts: str | None) -> Explanations:
    return Explanations(
        explainer=explainer,
        by=f"{explainer}'s",
        drawn_by=origin(made.manifest(8)) | {"latents": [7]},
        settings={},
        texts={name.removeprefix("l"): text for name, text in texts.items()},
        twin={},
        failed=0,
        nonsense=0,
    )


def scores() -> Scores:
    figures = {
        "own": {"r": Value(value=2 / 3, interval=[0.5, 0.75])},
        "random": {"r": Value(value=None)},
    }
    return Scores(
        scorer="simulation",
        metrics=["r"],
        explainer="llm",
        by="m",
        drawn_by=origin(made.manifest(8)),
        settings={},
        latents={"7": LatentScore(density=0.1, figures=figures, failed=0)},
        strata=[Stratum(name="all", n=1, means={}, above={})],
        failed=0,
        nonsense=0,
    )


def page(folder: Path) -> dict:
    text = (folder / "data" / "explanations.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("scopeworks.explanations(").removesuffix(");\n"))


def test_a_language_model_s_words_go_before_a_table_s(tmp_path):
    write_explanations(tmp_path, said("llm", l7="a </script>", l12=None))
    write_explanations(tmp_path, said("tokens", l7="b", l12="c"))
    write_scores(tmp_path, scores())
    assert "<" not in (tmp_path / "data" / "explanations.js").read_text()
    assert page(tmp_path) == {
        "7": {
            "text": "a </script>",
            "by": "llm's",
            "scores": {
                "simulation": {
                    "value": 0.6667,
                    "interval": [0.5, 0.75],
                    "metric": "r",
                    "controls": {"random": {"value": None}},
                }
            },
        },
        "12": {"text": "c", "by": "tokens's", "scores": {}},
    }
    assert list(page(tmp_path)) == ["7", "12"]
    assert read_all(tmp_path) == (
        [said("llm", l7="a </script>", l12=None), said("tokens", l7="b", l12="c")],
        [scores()],
    )


def test_a_score_of_another_explanation_is_not_shown(tmp_path):
    found = scores()
    scored = found.latents["7"].model_copy(update={"text": "a"})
    write_scores(tmp_path, found.model_copy(update={"latents": {"7": scored}}))
    write_explanations(tmp_path, said("llm", l7="a"))
    assert page(tmp_path)["7"]["scores"]
    write_explanations(tmp_path, said("llm", l7="b"))
    assert not page(tmp_path)["7"]["scores"]


@pytest.mark.parametrize("what", ["sae", "store", "tokens"])
def test_what_an_older_index_left_is_not_shown(tmp_path, what):
    write_explanations(tmp_path, said("llm", l7="a"))
    write_scores(tmp_path, scores())
    manifest = made.manifest(8)
    name = "key" if what == "store" else "fingerprint"
    part = getattr(manifest, what).model_copy(update={name: "new"})
    new = manifest.model_copy(update={what: part})
    assert b'"a"' in script(tmp_path, manifest) and b'"a"' not in script(tmp_path, new)
    assert read_all(tmp_path, new) == ([], [])

    again = said("llm", l7="a").model_copy(update={"drawn_by": origin(new)})
    write_explanations(tmp_path, again)
    assert b'"a"' in script(tmp_path, new) and b"0.6667" not in script(tmp_path, new)


def test_other_files_are_no_explanations(tmp_path):
    write_explanations(tmp_path, said("tokens", l1="x"))
    (tmp_path / "explanations" / ".owner.json").write_text("{}")
    write_explanations(tmp_path, said("tokens", l1="y"))
    assert page(tmp_path)["1"]["text"] == "y"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is not valid JSON"),
        ('{"format": "latent-scores"}', "format"),
        (json.dumps(said("llm").model_dump() | {"texts": {"x": "y"}}), "texts"),
        (json.dumps(said("llm").model_dump() | {"version": "2.0"}), "version"),
    ],
)
def test_damage_is_one_line(tmp_path, text, match):
    write_explanations(tmp_path, said("llm", l1="x"))
    (tmp_path / "explanations" / "llm.json").write_text(text)
    with pytest.raises(ValueError, match=match):
        read_explanations(tmp_path, "llm")
    with pytest.raises(FileNotFoundError, match="explanations by poet must be in"):
        read_explanations(tmp_path, "poet")
