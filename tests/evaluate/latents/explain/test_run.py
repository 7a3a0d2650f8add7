"""Explaining latents of an index: with and without a language model, and with bad input."""

import json
from pathlib import Path
from typing import Any

import pytest

from scopeworks.evaluate.latents.explain.run import explain_latents
from scopeworks.evaluate.latents.explain.settings import ExplainSettings
from scopeworks.evaluate.latents.files.explanations import read_explanations
from scopeworks.evaluate.latents.files.folder import open_index
from scopeworks.tests.evaluate.latents import planted as p
from scopeworks.tests.evaluate.latents.language_server import LanguageServer, oracle
from scopeworks.tests.evaluate.latents.made_index import Indexed, write_index_of

SMALL = {"context": 8, "explain": 10, "test": 10, "silent": 10}
LATENTS = [p.DIGIT, p.AFTER_DEF, p.RETURN, p.DEAD, 7]


@pytest.fixture
def index(planted_index: Indexed, tmp_path: Path) -> Indexed:
    """An index without explanations."""
    return Indexed(write_index_of(planted_index.planted, tmp_path / "index"), planted_index.planted)


def run(where: Indexed, **settings: Any) -> list[str]:
    given = {"index": where.index, "latents": LATENTS} | where.places | SMALL | settings
    if given["latents"] is None:
        del given["latents"]
    return explain_latents(ExplainSettings.model_validate(given))


def page_script(index: Indexed) -> dict[str, Any]:
    text = (index.index / "data" / "explanations.js").read_text()
    return json.loads(text.removeprefix("scopeworks.explanations(").removesuffix(");\n"))


def test_planted_latents_are_explained_by_their_tokens(index):
    said = run(index)
    assert said[0].startswith("4 of 5 latents explained by token unigrams, and 4 of a random SAE")
    found = read_explanations(index.index, "tokens")
    assert found.texts["2"] == "fires on ' return' (100% of its firings, 100% of such tokens)"
    assert found.texts[str(p.DEAD)] is None and found.twin[str(p.DEAD)] is None
    assert str(found.texts["0"]).startswith("fires on '")
    assert page_script(index)["2"] == {
        "text": found.texts["2"],
        "by": "token unigrams",
        "scores": {},
    }
    shown = open_index(index.index).explanations()
    assert list(shown) == sorted(shown) and p.DEAD not in shown
    assert {str(latent): one for latent, one in shown.items()} == page_script(index)
    before = {path: path.read_bytes() for path in sorted(index.index.rglob("*")) if path.is_file()}
    run(index)
    assert before == {
        path: path.read_bytes() for path in sorted(index.index.rglob("*")) if path.is_file()
    }


def test_what_the_index_was_made_from_is_found_where_its_maker_says(index, tmp_path):
    places = index.places | {"sae": index.planted.sae}
    (index.index / "places.json").write_text(json.dumps(places), encoding="utf-8")
    bare = {"index": index.index, "latents": LATENTS} | SMALL
    assert explain_latents(ExplainSettings.model_validate(bare))[0].startswith(
        "4 of 5 latents explained"
    )
    gone = {"store": str(tmp_path / "gone"), "seed": 1}
    with pytest.raises(FileNotFoundError, match="gone"):
        explain_latents(ExplainSettings.model_validate(bare | gone))
    (index.index / "places.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"places.json .* sae is missing"):
        explain_latents(ExplainSettings.model_validate(bare))


def test_explanations_that_are_replaced_are_said(index):
    run(index)
    said = run(index, latents=[2])
    assert said[-2].startswith("these replace explanations of 4 other latents")
    assert not any(line.startswith("these replace") for line in run(index))


def test_latents_are_spread_over_firing_frequency(index):
    run(index, latents=None, n=5)
    assert len(read_explanations(index.index, "tokens").texts) == 5


def test_a_language_model_explains_and_nothing_is_asked_twice(index, monkeypatch):
    with LanguageServer(oracle, fail_every=3) as server:
        asked = {"endpoint": server.url, "llm": "oracle", "attempts": 20}
        dry = run(index, **asked, dry_run=True)
        assert dry[0] == "requests: 8 to be asked, 0 answered before" and not server.seen
        said = run(index, **asked)
        assert "8 requests answered now, 0 before; 56 tokens read and 24 written" in said
        assert set(server.answered.values()) == {1} and len(server.answered) == 8
        assert server.n_failed == server.seen - 8 > 0
        assert "0 requests answered now, 8 before" in run(index, **asked)
        assert run(index, **asked, dry_run=True)[0].startswith("requests: 0 to be asked, 8")
    found = read_explanations(index.index, "llm")
    assert found.texts["2"] == 'tokens [" return"]' and found.by == "oracle"
    run(index)  # a language model's stays the one that is shown
    assert page_script(index)["2"]["by"] == "oracle"
    assert not (index.index / "explanations" / "answers" / "key").exists()


def test_nonsense_is_counted_and_is_no_explanation(index):
    with LanguageServer(lambda text: "" if "' return'" in text else oracle(text)) as server:
        said = run(index, endpoint=server.url, llm="dunce", tries=2)
    found = read_explanations(index.index, "llm")
    assert found.texts["2"] is None and found.failed >= 1 and found.nonsense == 2 * found.failed
    assert said[-2].endswith(
        f"{found.nonsense} answers were nonsense; {found.failed} questions failed by it"
    )


def test_a_person_s_prompt_is_asked(index, tmp_path):
    (tmp_path / "explain.txt").write_text("=== user\nWhat is common to {examples}?")
    seen = []
    with LanguageServer(lambda text: seen.append(text) or "some words") as server:
        run(index, endpoint=server.url, llm="m", prompts=tmp_path, latents=[2])
    assert all(text.startswith("What is common to Piece 1: ") for text in seen) and len(seen) == 2


def test_contexts_are_drawn_once(index, monkeypatch):
    run(index)
    places = {"store": None, "tokens": None}
    run(index, **places)
    with pytest.raises(ValueError, match="store must be given, for contexts are drawn from the"):
        run(index, **places, seed=1)
    run(index, seed=1)
    run(index, **places)  # others that were drawn since have replaced nothing


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"latents": [24]}, ValueError, "latents must be 0 … 23, as in .*, got 24"),
        ({"latents": [1, 1]}, ValueError, "latents must each be given once"),
        ({"store": "/nowhere"}, FileNotFoundError, "nowhere"),
        ({"model": None}, ValueError, "model must name the language model of .* pass --model"),
        (
            {"explainer": "poet"},
            ValueError,
            "(?is)explainer.*input should be 'llm' or 'tokens'",
        ),
        ({"explainer": "llm"}, ValueError, "explainer llm must have a language model to ask"),
        ({"prompts": "x"}, ValueError, "prompts has no effect with explainer tokens"),
        ({"n": 3}, ValueError, "n has no effect with latents"),
        ({"index": "/nowhere"}, FileNotFoundError, "index must be a folder that `scopeworks"),
    ],
)
def test_bad_input_is_one_line(index, settings, error, match):
    with pytest.raises(error, match=match):
        run(index, **settings)


def test_another_sae_is_refused(index, tmp_path):
    sae = p.sae()
    sae.b_enc += 1
    sae.save(tmp_path / "other")
    with pytest.raises(ValueError, match=r"sae must be the one that .* was made from"):
        run(index, sae=str(tmp_path / "other"))


def test_an_unfinished_index_is_refused(index):
    (index.index / "index.json").unlink()
    with pytest.raises(FileNotFoundError, match="must be finished"):
        run(index)
