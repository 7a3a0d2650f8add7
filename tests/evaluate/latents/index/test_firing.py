"""Everything the pass finds, against a slow recomputation from all rows."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest

from scopeworks.evaluate.latents.contents import Examples, Firings
from scopeworks.evaluate.latents.index import firing, inputs
from scopeworks.evaluate.latents.index.parts import MOST, parts_of
from scopeworks.evaluate.latents.index.tally import sample
from scopeworks.evaluate.latents.index.tally.kernels import BINS
from scopeworks.store import ActivationStore
from scopeworks.tests.evaluate.latents.index.conftest import (
    ALWAYS,
    D_SAE,
    DEAD,
    EQUAL,
    PAD,
    RARE,
    World,
    first_rows,
)
from scopeworks.tests.reference import latents_index as slow

KINDS = [
    {},
    {"packed": False},
    {"k": 3},
    {"target_site": "mlp_out.2"},
]
WINDOW = (4, 2, PAD)


def same(one: Firings, other: Firings) -> None:
    """Raises unless all is the same, bit for bit."""
    for f in fields(Firings):
        if f.name != "examples":
            np.testing.assert_array_equal(getattr(one, f.name), getattr(other, f.name))
    for f in fields(Examples):
        np.testing.assert_array_equal(
            getattr(one.examples, f.name), getattr(other.examples, f.name)
        )


def check_counts(world: World, found: Firings) -> None:
    """Counts are exact, sums equal to rounding."""
    for latent in range(D_SAE):
        expected = slow.counts(world.all, latent)
        assert found.fired[latent] == expected.pop("fired")
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(found, name)[latent], value, rtol=1e-5)
        width = float(found.bin_width[latent])
        assert np.log2(width) % 1 == 0
        histogram = slow.histogram(world.all, latent, width, BINS)
        assert found.histogram[latent].tolist() == histogram
        if expected["largest"]:
            assert max(np.flatnonzero(histogram)) >= BINS // 2
        rows, fired = slow.by_position(world.all, latent, found.position_edges.tolist())
        assert found.position_rows.tolist() == rows
        assert found.by_position[latent].tolist() == fired


def check_examples(
    world: World, found: Firings, bands: int = 5, stored: World | None = None
) -> None:
    """The strongest are those there are; the others are of the right bands; none is double. At the
    tokens around them the latent does what it does there in all that is stored."""
    for latent in range(D_SAE):
        mine = np.flatnonzero(found.examples.latent == latent)
        one = [tuple(getattr(found.examples, f.name)[i] for f in fields(Examples)) for i in mine]
        places = [(int(o[2]), int(o[3])) for o in one]
        band = [int(o[1]) for o in one]
        assert band == sorted(band) and max(Counter(band[band.count(0) :]).values(), default=0) <= 2
        top = slow.strongest(world.all, latent, world.sequences, 4, WINDOW)
        assert places[: band.count(0)] == top
        all_ = slow.firings_of(world.all, latent)
        everywhere = slow.firings_of((stored or world).all, latent)
        document = dict(zip(zip(*_where(world), strict=True), world.all.document, strict=True))
        assert len({document[place] for place in places}) == len(places)
        texts = [slow.snippet(world.sequences, *place, *WINDOW) for place in places]
        assert len({tuple(tokens) for _, tokens in texts}) == len(places)
        for i, place, (start, tokens) in zip(mine, places, texts, strict=True):
            e = found.examples
            np.testing.assert_allclose(e.value[i], all_[place], rtol=1e-5)
            assert e.start[i] == start
            n = len(tokens)
            assert e.tokens[i, :n].tolist() == tokens and (e.tokens[i, n:] == -1).all()
            near = [everywhere.get((place[0], start + t), 0.0) for t in range(e.f.shape[1])]
            np.testing.assert_allclose(e.f[i, :n], near[:n], rtol=1e-5)
            assert (e.f[i, n:] == 0).all()
            if e.band[i]:  # where not all firings are drawn, shares are those of the draw
                off = abs(e.band[i] - slow.band_of(world.all, latent, place, bands))
                assert off <= (len(all_) > inputs.n_drawn(D_SAE))
        values = [(b, -float(o[5])) for b, o in zip(band, one, strict=True)]
        assert values == sorted(values)


def _where(world: World) -> tuple[list[int], list[int]]:
    return world.all.sequence.tolist(), world.all.position.tolist()


def check_tokens(world: World, found: Firings) -> None:
    """Where few firings were drawn of many, their tokens are some of the latent's own."""
    rows = slow.rows_of_token(world.all)
    for latent in range(D_SAE):
        mine = found.token_latent == latent
        places = list(slow.firings_of(world.all, latent))
        own = slow.tokens_at(world.all, places)
        counted = dict(
            zip(found.token[mine].tolist(), found.token_count[mine].tolist(), strict=True)
        )
        assert found.drawn[latent] == min(len(places), inputs.n_drawn(D_SAE))
        if len(places) <= inputs.n_drawn(D_SAE):
            assert sorted(counted.items()) == sorted(
                sorted(own.items(), key=lambda item: (-item[1], item[0]))[: firing.TOKENS]
            )
        assert all(count <= own[token] for token, count in counted.items())
        assert found.token_rows[mine].tolist() == [rows[token] for token in counted]
        assert list(counted.values()) == sorted(counted.values(), reverse=True)


def check_together(world: World, found: Firings) -> None:
    """Partners, shares and correlations over all rows."""
    assert found.together_rows == len(world.all.f)
    for latent in range(D_SAE):
        expected = slow.partners(world.all, latent, firing.PARTNERS)
        n = len(expected)
        assert found.partner[latent, :n].tolist() == [j for j, _, _ in expected]
        assert (found.partner[latent, n:] == -1).all()
        for name, at in (("jaccard", 1), ("correlation", 2)):
            values = [item[at] for item in expected]
            np.testing.assert_allclose(getattr(found, name)[latent, :n], values, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_number_is_that_of_all_rows(make_index, kind):
    world = make_index(**kind)
    found = world.firings()
    assert found.rows == len(world.all.f) and found.fired[DEAD] == 0
    assert found.fired[RARE] in (3, 0) and found.fired[EQUAL] > 100 * (not kind.get("k"))
    check_counts(world, found)
    check_examples(world, found)
    check_tokens(world, found)
    check_together(world, found)


def test_the_first_rows_alone(world):
    """Whole buckets: in one that was cut, a snippet would lack the rows that were not read."""
    found = world.firings(rows=500)
    few = first_rows(world, 576)
    assert found.rows == 576
    check_counts(few, found)
    check_examples(few, found, stored=world)
    check_together(few, found)


def test_without_bands_only_the_strongest(world):
    examples = world.firings(bands=0, per_band=3).examples
    assert (examples.band == 0).all() and len(examples.band) > D_SAE


def test_draws_are_spread_over_the_rows(world, monkeypatch):
    """An even draw: with 40 of about 1,200 firings, each third of the store has some of them."""
    monkeypatch.setattr(inputs, "_MOST_DRAWN", 40)
    found = world.firings()
    assert found.drawn[ALWAYS] == 40
    check_tokens(world, found)
    other = world.firings(seed=1, out=world.given["out"] + "2")
    mine, theirs = (one.token[one.token_latent == ALWAYS].tolist() for one in (found, other))
    assert mine != theirs
    check_counts(world, other)


def test_a_sample_of_the_rows_is_even_and_counted_exactly(world):
    found = world.firings(together_rows=300)
    assert 230 < found.together_rows < 370
    whole = world.firings(out=world.given["out"] + "2")
    pairs = np.isin(found.partner[ALWAYS], whole.partner[ALWAYS])
    assert pairs.sum() >= 5
    assert np.abs(found.jaccard[ALWAYS] - whole.jaccard[ALWAYS]).max() < 0.15


def test_bounds_on_firings_make_the_sample_smaller(world, monkeypatch):
    monkeypatch.setattr(sample, "MOST_ENTRIES", 1000)
    found = world.firings()
    assert 0 < found.together_rows < len(world.all.f) / 2
    check_counts(world, found)


def test_parts_are_whole_buckets_and_few(world, monkeypatch):
    store = ActivationStore.open(world.given["store"])
    parts = parts_of(store, None)
    assert len(parts) == len(store.commits) > 5
    assert [p.start for p in parts[1:]] == [p.stop for p in parts[:-1]]
    assert parts[0].start == 0 and parts[-1].stop == store.rows
    monkeypatch.setattr("scopeworks.evaluate.latents.index.parts.MOST", 3)
    assert len(parts_of(store, None)) == 3 < MOST
    few = parts_of(store, 200)  # rounded up to whole buckets; snippets go on in the one behind
    assert [p.stop for p in few] == [192, 384] and [p.beyond for p in few] == [192, 576]


@pytest.mark.parametrize("kind", KINDS[:1] + KINDS[2:3], ids=str)
def test_parts_of_another_number_count_the_same(make_index, monkeypatch, kind):
    """Only sums of float64 may differ in their last bit."""
    world = make_index(**kind)
    found = world.firings()
    monkeypatch.setattr("scopeworks.evaluate.latents.index.parts.MOST", 2)
    other = world.firings(out=world.given["out"] + "2")
    same(
        found,
        Firings(**vars(other) | {name: getattr(found, name) for name in ("total", "squares")}),
    )
    np.testing.assert_allclose(found.total, other.total, rtol=1e-14)
