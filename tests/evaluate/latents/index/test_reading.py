"""Rows in blocks, in order, and labels that must be of the token store's tokens."""

import numpy as np
import pytest
import torch

from scopeworks.evaluate.latents.index import reading
from scopeworks.evaluate.latents.index.reading import Encoder, LabelledRows, Labeller, blocks
from scopeworks.harvest.rows.documents import Documents
from scopeworks.store import ActivationStore
from scopeworks.train.sae.sae import SAE


@pytest.mark.parametrize("piece", [1, 2**14])
def test_blocks_are_the_rows_in_order(world, monkeypatch, piece):
    monkeypatch.setattr(reading, "_PIECE_BYTES", piece)
    monkeypatch.setattr(reading, "_FEWEST_ROWS", 7)
    store = ActivationStore.open(world.given["store"])
    found = list(blocks(store, "resid_post.1", 192, 700, 2**22))
    assert max(len(block.x) for block in found) == 7
    expected = store.read("resid_post.1", 192, 700)
    torch.testing.assert_close(torch.cat([block.x for block in found]), expected, rtol=0, atol=0)
    labels = store.labels(192, 700)
    for name in ("token", "sequence", "position"):
        got = np.concatenate([getattr(block, name) for block in found])
        np.testing.assert_array_equal(got, getattr(labels, name))
    assert list(blocks(store, "resid_post.1", 5, 5, 20)) == []


def test_entries_are_what_the_sae_encodes(world):
    store, sae = ActivationStore.open(world.given["store"]), SAE.load(world.given["sae"])
    x = store.read("resid_post.1", 0, 300)
    start, latent, value = Encoder(sae).entries(x)
    f = sae.encode(x).numpy()
    row = np.repeat(np.arange(300), np.diff(start))
    np.testing.assert_array_equal(np.stack([row, latent]), np.stack(np.nonzero(f)))
    np.testing.assert_array_equal(value, f[row, latent])


@pytest.mark.parametrize("bad", ["sequence", "position", "token"])
def test_rows_of_no_token_are_refused(bad):
    documents = Documents(False, 8, np.arange(3), np.zeros(3, np.int64), np.empty(0, np.int64))
    label = Labeller(documents, reading.position_edges(8), 0)
    labels = {name: np.array([1, 2]) for name in ("token", "sequence", "position")}
    label.rows(LabelledRows(torch.zeros(2, 4), **labels))
    labels[bad] = np.array([1, 2**24])
    with pytest.raises(ValueError, match=f"{bad} of the store's rows must be in 0"):
        label.rows(LabelledRows(torch.zeros(2, 4), **labels))


@pytest.mark.parametrize("context", [2, 3, 24, 256, 1024])
def test_position_bins_hold_every_position(context):
    edges = reading.position_edges(context)
    assert edges[0] == 0 and edges[-1] == context and (np.diff(edges) > 0).all()
    assert len(edges) <= 17
