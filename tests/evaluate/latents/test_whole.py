"""Planted latents from stored rows to a page: indexed, explained, scored, and found by search."""

import json
import time
from pathlib import Path

import pytest

from scopeworks.evaluate.latents.explain.run import explain_latents
from scopeworks.evaluate.latents.explain.settings import ExplainSettings
from scopeworks.evaluate.latents.index.run import index
from scopeworks.evaluate.latents.index.settings import IndexSettings
from scopeworks.evaluate.latents.score.run import score
from scopeworks.evaluate.latents.score.settings import ScoreSettings
from scopeworks.tests.evaluate.latents import planted
from scopeworks.tests.evaluate.page.browser import Browser, program

ROWS = "[...document.querySelectorAll('.rows .row')].map((row) => row.innerText)"
PATIENCE_S = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An index of planted latents, explained and scored by token unigrams."""
    root = tmp_path_factory.mktemp("whole")
    given = planted.plant(root / "planted", 60)
    places = {name: getattr(given, name) for name in ("tokens", "store", "sae", "model")}
    out = root / "index"
    index(IndexSettings.model_validate(places | {"out": out, "device": "cpu"}))
    latents = [planted.DIGIT, planted.AFTER_DEF, planted.RETURN]
    small = {"context": 8, "explain": 10, "test": 10, "silent": 10}
    explain_latents(ExplainSettings.model_validate({"index": out, "latents": latents} | small))
    list(score(ScoreSettings.model_validate({"index": out, "scorer": ["tokens"]})))
    return out


@pytest.mark.slow
def test_planted_latents_score_far_above_their_controls(folder):
    found = json.loads((folder / "scores" / "tokens.json").read_text())["latents"]
    for latent in (planted.DIGIT, planted.RETURN):
        figures = found[str(latent)]["figures"]
        assert figures["own"]["r"]["value"] > 0.9
        assert abs(figures["shuffled"]["r"]["value"]) < 0.3
        assert abs(figures["random"]["r"]["value"]) < 0.5


@pytest.mark.slow
@pytest.mark.skipif(program() is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.parametrize(
    ("words", "latent"), [("return", planted.RETURN), ("fires on ' return'", planted.RETURN)]
)
def test_planted_latents_are_found_by_search(folder, tmp_path, words, latent):
    with Browser(tmp_path) as browser:
        browser.open(folder / "index.html")
        browser.run(f"location.hash = '#/search?q=' + encodeURIComponent({json.dumps(words)})")
        end = time.monotonic() + PATIENCE_S
        while not (rows := browser.run(ROWS)) or "return" not in rows[0]:
            assert time.monotonic() < end, rows
            time.sleep(0.1)
    assert rows[0].split()[0] == str(latent)
    assert "tokens r 1.00 (shuffled" in " ".join(rows[0].split())
