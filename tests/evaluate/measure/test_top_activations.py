"""Choosing latents and finding where they are most active."""

import numpy as np
import torch

from scopeworks.evaluate.measure import top_activations
from scopeworks.evaluate.measure.inputs import candidate
from scopeworks.evaluate.measure.top_activations import (
    AFTER,
    BEFORE,
    LatentSearch,
    choose_latents,
    narrowed,
    token_texts,
)
from scopeworks.harvest.model.hooks import forward_until
from scopeworks.harvest.model.sites import parse_site
from scopeworks.tests.evaluate.saes import random_sae
from scopeworks.tests.reference.gemma_models import build_tokenizer


def test_choice_spreads_over_ranks_and_leaves_out_the_dead():
    fired = torch.tensor([0, 8, 7, 6, 5, 0, 4, 3, 2, 1])
    chosen = choose_latents(fired, 4, seed=3)
    counts = fired[chosen].tolist()
    assert counts == sorted(counts, reverse=True)
    assert [(8 - c) // 2 for c in counts] == [0, 1, 2, 3]
    assert chosen == choose_latents(fired, 4, seed=3)


def test_choice_of_more_latents_than_are_alive_gives_those():
    assert choose_latents(torch.tensor([0, 2, 5]), 10, seed=0) == [2, 1]
    assert choose_latents(torch.zeros(4, dtype=torch.int64), 10, seed=0) == []


def test_narrowed_sae_encodes_its_latents_alike(monkeypatch):
    sae, picked = random_sae("resid_post.1"), [40, 3, 17]
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(narrowed(sae, picked)(x), sae.encode(x)[..., picked])
    # Which features of a top-k SAE stay depends on those that are not picked.
    monkeypatch.setattr(top_activations, "MAX_FEATURE_VALUES", 3 * 48)
    sae.config = sae.config.model_copy(update={"k": 4})
    wanted = sae.encode(x)[..., picked]
    assert 0 < int((wanted > 0).sum()) < wanted.numel()
    torch.testing.assert_close(narrowed(sae, picked)(x), wanted)


def search_all(lm, ids, settings, batch):
    sae = random_sae("resid_post.1")
    x = forward_until(lm, ids, [parse_site("resid_post.1")])["resid_post.1"]
    keep = ids > 2
    f = torch.where(keep[..., None], sae.encode(x), 0)
    changes = {"top_latents": 6, "top_snippets": 2}
    search = LatentSearch(
        candidate("sae", sae, lm),
        (f > 0).sum((0, 1)),
        int(keep.sum()),
        settings.model_copy(update=changes),
    )
    for start in range(0, len(ids), batch):
        part = slice(start, start + batch)
        search.add(ids[part], x[part], keep[part])
    return f, keep, search.result(lm.tokenizer)


def test_search_finds_the_strongest_sequences_whatever_the_batch(lm, ids, settings):
    f, keep, result = search_all(lm, ids, settings, batch=4)
    assert len(result) == 6
    for entry in result:
        own = f[..., entry["latent"]]
        best = own.max(dim=1).values.sort(descending=True).values
        wanted = [v for v in best[:2].tolist() if v > 0]
        np.testing.assert_allclose([s["activation"] for s in entry["snippets"]], wanted, rtol=1e-5)
        assert entry["frequency"] == int((own > 0).sum()) / int(keep.sum())
    assert search_all(lm, ids, settings, batch=1)[2] == result


def test_snippet_shows_the_tokens_around_its_peak(lm, ids, settings):
    _, _, result = search_all(lm, ids, settings, batch=6)
    for snippet in (s for entry in result for s in entry["snippets"]):
        row = ids[snippet["sequence"]]
        start, stop = max(0, snippet["position"] - BEFORE), snippet["position"] + AFTER + 1
        assert snippet["start"] == start
        assert snippet["tokens"] == token_texts(lm.tokenizer, row[start:stop].tolist())
        peak = snippet["activations"][snippet["position"] - start]
        assert peak == max(snippet["activations"])
        assert len(snippet["tokens"]) == len(snippet["activations"])


def test_the_same_passage_is_shown_once(lm, ids, settings):
    twice = torch.cat([ids, ids])
    _, _, result = search_all(lm, twice, settings, batch=4)
    assert result
    for entry in result:
        shown = [tuple(snippet["tokens"]) for snippet in entry["snippets"]]
        assert len(shown) == len(set(shown)) > 1
        assert all(snippet["sequence"] < len(ids) for snippet in entry["snippets"])
    assert search_all(lm, twice, settings, batch=1)[2] == result


def test_dead_sae_has_no_latents_to_show(lm, ids, settings):
    sae = random_sae("resid_post.1")
    asked = settings.model_copy(update={"top_latents": 3})
    search = LatentSearch(candidate("sae", sae, lm), torch.zeros(48, dtype=torch.int64), 5, asked)
    search.add(ids, torch.zeros(*ids.shape, 32), ids > 2)
    assert search.result(lm.tokenizer) == []


def test_token_texts_join_the_bytes_of_one_character():
    tokenizer = build_tokenizer()
    text = "aé→b"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == 1 + 2 + 3 + 1
    texts = token_texts(tokenizer, ids)
    assert "".join(texts) == text
    assert texts[0] == "a"
    assert texts[-1] == "b"
    assert len(texts) == len(ids)


def test_token_texts_keep_broken_bytes_visible():
    tokenizer = build_tokenizer()
    ids = tokenizer("é", add_special_tokens=False)["input_ids"]
    assert token_texts(tokenizer, ids[:1]) == ["\ufffd"]
