"""Scores of planted latents by an oracle, beside controls; failures, kills and bad input."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scopeworks.evaluate.latents.explain.run import explain_latents
from scopeworks.evaluate.latents.explain.settings import ExplainSettings
from scopeworks.evaluate.latents.files.explanations import Scores, read_all
from scopeworks.evaluate.latents.score.run import score
from scopeworks.evaluate.latents.score.settings import ScoreSettings
from scopeworks.tests.evaluate.latents import planted as p
from scopeworks.tests.evaluate.latents.killing import killed
from scopeworks.tests.evaluate.latents.language_server import LanguageServer, oracle
from scopeworks.tests.evaluate.latents.made_index import Indexed, write_index_of

LATENTS = [p.DIGIT, p.RETURN, p.AFTER_DEF, p.DEAD, 7]


@pytest.fixture(scope="module")
def explained(planted_index: Indexed, tmp_path_factory) -> Indexed:
    """An index with an oracle's explanations."""
    folder = tmp_path_factory.mktemp("explained") / "index"
    found = Indexed(write_index_of(planted_index.planted, folder), planted_index.planted)
    with LanguageServer(oracle) as server:
        asked = {"endpoint": server.url, "llm": "oracle"}
        small = {"context": 8, "explain": 30, "test": 16, "silent": 16}
        given = {"index": folder, "latents": LATENTS} | small | found.places | asked
        explain_latents(ExplainSettings.model_validate(given))
    return found


@pytest.fixture
def index(explained: Indexed, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(explained.index, tmp_path / "index")


def run(index: Path, **settings: Any) -> list[str]:
    return list(score(ScoreSettings.model_validate({"index": index} | settings)))


def found(index: Path, scorer: str) -> Scores:
    return next(one for one in read_all(index)[1] if one.scorer == scorer)


def figures(scores: Scores, latent: int, metric: str) -> dict[str, float | None]:
    """Variant -> value."""
    by_variant = scores.latents[str(latent)].figures
    return {variant: by_metric[metric].value for variant, by_metric in by_variant.items()}


def test_an_oracle_scores_high_and_shuffled_explanations_at_chance(index):
    with LanguageServer(oracle, fail_every=20, stall_s=20.0) as server:
        asked = {"endpoint": server.url, "llm": "oracle", "timeout_s": 0.5}
        said = run(index, scorer=["detection"], **asked)
        assert set(server.answered.values()) == {1}
        assert server.n_failed > 5 and server.seen == len(server.answered) + server.n_failed
        n = len(server.answered)
        again = run(index, scorer=["detection"], **asked)
        assert len(server.answered) == n and server.seen == n + server.n_failed
    assert said[:-2] == again[:-2]
    scores = found(index, "detection")
    for latent in (p.DIGIT, p.RETURN):
        values = figures(scores, latent, "balanced_accuracy")
        assert values["own"] == 1.0
        assert abs(values["shuffled"] - 0.5) <= 0.2 and abs(values["random"] - 0.5) <= 0.2  # pyright: ignore
    names = figures(scores, p.AFTER_DEF, "balanced_accuracy")
    assert names["own"] is not None and names["own"] < 0.8  # the names are elsewhere too
    assert "own" not in scores.latents[str(p.DEAD)].figures
    assert scores.strata[0].n == 4 and scores.failed == 0
    assert "1 latents have no score: they fire in no test context" in "\n".join(said)


@pytest.mark.slow
def test_all_scorers_tell_planted_latents_from_noise(index):
    with LanguageServer(oracle) as server:
        run(index, endpoint=server.url, llm="oracle")
    fuzzing, simulation = found(index, "fuzzing"), found(index, "simulation")
    # What follows `def` is elsewhere too, where a wrong mark may hit it.
    for latent, least in ((p.DIGIT, 0.95), (p.RETURN, 0.95), (p.AFTER_DEF, 0.8)):
        values = figures(fuzzing, latent, "balanced_accuracy")
        assert values["own"] >= least  # pyright: ignore
        assert values["shuffled"] <= 0.8  # pyright: ignore
        assert figures(simulation, latent, "r")["own"] >= 0.4  # pyright: ignore
    assert abs(figures(simulation, 7, "r")["own"]) < 0.3  # pyright: ignore
    assert found(index, "detection").strata[0].means["random"]["balanced_accuracy"].value < 0.65  # pyright: ignore


def test_unigrams_need_no_language_model(index):
    said = run(index, scorer="tokens")
    scores = found(index, "tokens")
    assert scores.metrics == ["r", "auroc"]
    assert figures(scores, p.RETURN, "r")["own"] > 0.99  # pyright: ignore
    assert abs(figures(scores, p.RETURN, "r")["random"]) < 0.3  # pyright: ignore
    assert said[0] == "tokens: r (0 is chance), explanations by tokens, predicted by token unigrams"
    text = (index / "data" / "explanations.js").read_text()
    shown = json.loads(text.removeprefix("scopeworks.explanations(").removesuffix(");\n"))
    assert shown["2"]["scores"]["tokens"]["value"] > 0.99
    assert set(shown["2"]["scores"]["tokens"]["controls"]) == {"shuffled", "random"}


def test_nonsense_gives_no_score_and_says_so(index):
    with LanguageServer(lambda text: "maybe" if "return" in text else oracle(text)) as server:
        asked = {"endpoint": server.url, "llm": "dunce", "tries": 1}
        said = run(index, scorer=["detection"], **asked)
    scores = found(index, "detection")
    assert scores.failed > 0 and scores.nonsense > 0
    assert scores.latents[str(p.RETURN)].figures["own"]["balanced_accuracy"].value is None
    assert f"{scores.failed:,} test contexts could not be judged" in "\n".join(said)


def test_several_examples_in_a_prompt_are_fewer_requests(index):
    with LanguageServer(oracle) as server:
        asked = {"endpoint": server.url, "llm": "oracle", "scorer": ["detection"]}
        one = run(index, **asked, dry_run=True)
        five = run(index, **asked, dry_run=True, examples_per_prompt=8)
    counts = [int(lines[0].split()[1].replace(",", "")) for lines in (one, five)]
    assert counts[0] > 7 * counts[1] > 0 and not server.seen


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_equals_one_that_is_not(index, tmp_path, kills):
    never = shutil.copytree(index, tmp_path / "never")
    with LanguageServer(oracle) as server:
        asked = {"endpoint": server.url, "llm": "oracle", "scorer": ["detection"]}
        run(never, **asked)
        n = sum(server.answered.values())
        server.answered.clear()
        given = {"index": str(index)} | asked
        assert killed(given, server, kills, n // (kills + 3)) == kills
        extra = sum(server.answered.values()) - n
    assert 0 <= extra <= 4 * kills  # those on their way
    assert len(server.answered) == n
    for name in ("scores/detection.json", "data/explanations.js"):
        assert (index / name).read_bytes() == (never / name).read_bytes()
    assert not list(index.rglob(".owner.json"))


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"scorer": ["poetry"]}, ValueError, r"(?is)scorer\.0.*input should be 'detection', 'fu"),
        ({"scorer": ["detection"]}, ValueError, "detection must have a language model to ask"),
        ({"explainer": "tokens"}, FileNotFoundError, "explanations by tokens must be in"),
        ({"examples_per_prompt": 2}, ValueError, "has an effect on detection and fuzzing only"),
        ({"prompts": "x"}, ValueError, "prompts has no effect with scorer tokens"),
    ],
)
def test_bad_input_is_one_line(index, settings, error, match):
    with pytest.raises(error, match=match):
        run(index, **settings)


def test_samples_that_are_gone_are_drawn_again(index):
    shutil.rmtree(index / "explanations" / "samples")
    assert "written" in run(index)[-1]
    assert len(list((index / "explanations" / "samples").iterdir())) == 1


def test_damaged_explanations_are_one_line(index):
    (index / "explanations" / "llm.json").write_text("{}")
    with pytest.raises(ValueError, match=r"llm\.json does not hold what it must"):
        run(index)


@pytest.mark.parametrize(
    ("name", "said"), [("sae", "SAE"), ("store", "rows"), ("tokens", "tokens")]
)
def test_explanations_of_another_index_are_refused(index, name, said):
    """Their samples would be kept under a name that says they are of other rows."""
    path = index / "explanations" / "llm.json"
    explanations = json.loads(path.read_text())
    explanations["drawn_by"][name] = "another"
    path.write_text(json.dumps(explanations))
    with pytest.raises(ValueError, match=f"must be of its {said}, got .*; explain again"):
        run(index)


def test_an_endpoint_that_is_gone_stops_the_run_and_loses_nothing(index):
    with LanguageServer(oracle) as server:
        asked = {"endpoint": server.url, "llm": "oracle", "scorer": ["detection"], "attempts": 1}
        server.refuse = (401, "", {})
        with pytest.raises(ValueError, match="asks for a key"):
            run(index, **asked)
        assert not (index / "scores" / "detection.json").exists()
        server.refuse = None
        run(index, **asked)
