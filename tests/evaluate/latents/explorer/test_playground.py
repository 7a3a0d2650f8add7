"""The playground: what it answers, its bounds, and that index, SAE and model belong together."""

from pathlib import Path

import pytest

from scopeworks.evaluate.latents.explorer.folders import served_indexes
from scopeworks.evaluate.latents.explorer.playground import (
    AskedText,
    AskedTokens,
    Playground,
    open_playgrounds,
)
from scopeworks.evaluate.latents.explorer.settings import ServeSettings
from scopeworks.evaluate.latents.explorer.steering import SteeredModel
from scopeworks.evaluate.latents.weights.identity import sae_fingerprint
from scopeworks.foreign import validated
from scopeworks.harvest.model.sites import parse_site
from scopeworks.tests.evaluate.latents import made_contents
from scopeworks.tests.evaluate.saes import random_sae

SITE = parse_site("resid_post.1")


@pytest.fixture
def playground(lm) -> Playground:
    return Playground(lm, SteeredModel(lm.model, random_sae("resid_post.1"), SITE, SITE))


def test_tokens_their_strongest_latents_and_the_one_asked_for(playground: Playground, lm):
    got = playground.tokens(AskedTokens(text="abc de", latent=None))
    n = len(got["tokens"])
    assert got["special"] == [True] + [False] * (n - 1)
    assert "".join(got["tokens"][1:]).strip() == "abc de"
    assert len(got["top"]) == len(got["active"]) == n > 1
    latent, value = got["top"][-1][0]
    values = [value for _, value in got["top"][-1]]
    assert values == sorted(values, reverse=True) and len(values) == min(10, got["active"][-1])
    assert got["values"] is None
    shaded = playground.tokens(AskedTokens(text="abc de", latent=latent))
    assert shaded["values"][-1] == value and len(shaded["values"]) == n


def test_text_with_and_without_changes(playground: Playground):
    edit = {"latent": 5, "kind": "add", "value": 40.0, "start": 1}
    asked = {"text": "abc", "edits": [edit], "n_tokens": 6, "temperature": 1.0, "seed": 3}
    got = playground.text(validated(AskedText, asked, "request"))
    assert 1 <= len(got["before"]) <= 6 and got["before"] != got["after"]
    for side in ("before", "after"):
        assert 0.0 < sum(one[side] for one in got["next"]) <= 1.0001
    plain = playground.text(validated(AskedText, {**asked, "edits": []}, "request"))
    assert plain["before"] == plain["after"] == got["before"]
    assert all(one["before"] == one["after"] for one in plain["next"])


def test_bounds(playground: Playground):
    for value in (float("inf"), 1e7, "1"):
        edit = {"latent": 0, "kind": "add", "value": value}
        with pytest.raises(ValueError, match="value"):
            validated(AskedText, {"text": "a", "edits": [edit]}, "request")
    for bad in ({"n_tokens": 101}, {"temperature": -1}, {"edits": [{}] * 33}, {"seed": 2**32}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            validated(AskedText, {"text": "a", **bad}, "request")
    with pytest.raises(ValueError, match="latent must be 0 to 47, got 48"):
        playground.tokens(AskedTokens(text="a", latent=48))
    change = {"latent": 48, "kind": "off"}
    with pytest.raises(ValueError, match="latent must be 0 to 47, got 48"):
        playground.text(validated(AskedText, {"text": "a", "edits": [change]}, "request"))
    with pytest.raises(ValueError, match="latent must be changed once, got 7 twice"):
        changes = [{"latent": 7, "kind": kind} for kind in ("off", "add")]
        playground.text(validated(AskedText, {"text": "a", "edits": changes}, "request"))
    with pytest.raises(ValueError, match="text must have 1 to 64 tokens, got 1,025"):
        playground.tokens(AskedTokens(text="a b " * 256))
    with pytest.raises(ValueError, match="text must have 1 to 44 tokens"):
        playground.text(validated(AskedText, {"text": "a b " * 16, "n_tokens": 20}, "request"))


def settings(folder: Path, model: Path, **more) -> ServeSettings:
    return ServeSettings(index=(folder,), model=str(model), **more)


def an_index(folder: Path, **sae) -> Path:
    facts = {"site": "resid_post.1", "d_in": 32, "d_out": 32} | sae
    facts["fingerprint"] = sae_fingerprint(random_sae("resid_post.1"))
    made_contents.write(folder, 48, **facts)
    return folder


def test_model_sae_and_index_that_belong_together(tmp_path: Path, model_dir: Path, sae_dir: Path):
    folder = an_index(tmp_path / "index", source=str(sae_dir))
    (one,) = open_playgrounds(settings(folder, model_dir), served_indexes([folder]))
    assert one.tokens(AskedTokens(text="abc"))["active"][-1] > 0


def test_an_sae_that_is_not_the_indexs(tmp_path: Path, model_dir: Path, sae_dir: Path):
    folder = an_index(tmp_path / "index")
    with pytest.raises(ValueError, match=r"sae must be given, for the index .* does not say where"):
        open_playgrounds(settings(folder, model_dir), served_indexes([folder]))
    random_sae("resid_post.1", seed=1).save(tmp_path / "other")
    other = settings(folder, model_dir, sae=(str(tmp_path / "other"),))
    with pytest.raises(ValueError, match=r"must be that of the index .*, got other weights"):
        open_playgrounds(other, served_indexes([folder]))
    gone = an_index(tmp_path / "gone", source=str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match=r"nothing.*; pass the SAE of .*gone as --sae"):
        open_playgrounds(settings(gone, model_dir), served_indexes([gone]))


def test_another_model_is_refused(tmp_path: Path, model_dir: Path, sae_dir: Path, monkeypatch):
    folder = an_index(tmp_path / "index", source=str(sae_dir))
    (one,) = served_indexes([folder])
    facts = one.index.manifest.model_copy(update={"model_fingerprint": "a" * 16})
    monkeypatch.setattr(one.index, "manifest", facts)
    with pytest.raises(ValueError, match=r"model must be tiny \(a{16}\), of which the index"):
        open_playgrounds(settings(folder, model_dir), [one])


def test_saes_without_a_model():
    with pytest.raises(ValueError, match="sae must be given with model"):
        ServeSettings(index=(Path("a"),), sae=("b",))
    with pytest.raises(ValueError, match="once for each of the 1 indexes, got 2"):
        ServeSettings(index=(Path("a"),), model="m", sae=("b", "c"))
