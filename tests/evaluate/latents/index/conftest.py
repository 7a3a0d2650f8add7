"""Small stores whose activations float32 holds exactly: ties are ties, and order is exact."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scopeworks.evaluate.latents.contents import Firings
from scopeworks.evaluate.latents.index import firing
from scopeworks.evaluate.latents.index.inputs import Inputs
from scopeworks.evaluate.latents.index.on_dask import doing
from scopeworks.evaluate.latents.index.settings import IndexSettings
from scopeworks.harvest.rows.plan import Mask, Plan
from scopeworks.harvest.tokens.packing import sequence_order
from scopeworks.store import ActivationStore, StoreSpec, StoreWriter, TokenStore
from scopeworks.tests.reference import latents_index as slow
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE

D, CONTEXT, N_SEQUENCES, VOCABULARY = 12, 24, 60, 40
PAD, EOS, BOS = 0, 1, 2
ALWAYS, DEAD, EQUAL, RARE = range(4)
"""Latents: fires in every row, with any strength; never; in half of the rows with one strength; in
three rows."""
D_SAE = 20


@dataclass(frozen=True)
class World:
    """What an index is made from, and all its rows at once."""

    given: dict[str, Any]
    all: slow.Everything
    sequences: np.ndarray

    def settings(self, **changes: Any) -> IndexSettings:
        return IndexSettings.model_validate(self.given | changes)

    def firings(self, **changes: Any) -> Firings:
        """What the pass finds."""
        work = firing.Pass(Inputs.load(self.settings(**changes)))
        with doing(work) as do:
            return firing.firings(work, do, {})


def make_sequences() -> np.ndarray:
    """Packed sequences: documents of any length, few tokens, and every seventh sequence again."""
    draw = np.random.default_rng(1)
    ids = draw.integers(3, VOCABULARY, (N_SEQUENCES, CONTEXT))
    ids[:, 0] = BOS
    ids[:, 1:][draw.random((N_SEQUENCES, CONTEXT - 1)) < 0.04] = EOS
    ids[7::7] = ids[0]
    ids[5, 15:] = PAD
    return ids


def make_rows(n: int, seed: int = 0) -> torch.Tensor:
    """Rows on a grid of quarters: what decides ALWAYS, EQUAL and RARE is in the first channels."""
    draw = np.random.default_rng(seed)
    x = draw.integers(-6, 7, (n, D)) / 4
    x[:, ALWAYS] = draw.integers(1, 40, n) / 4
    x[:, EQUAL] = draw.integers(0, 2, n)
    x[:, RARE] = 0
    x[draw.choice(n, 3, replace=False), RARE] = [1, 2, 2]
    return torch.from_numpy(x).float()


def make_sae(k: int | None, target_site: str | None) -> SAE:
    """Weights on a grid, so that products are exact."""
    draw = np.random.default_rng(2)
    W_enc = draw.integers(-2, 3, (D, D_SAE)) / 2
    W_enc[:, :4] = 0
    W_enc[range(4), range(4)] = 1
    theta = np.full(D_SAE, 1.5)
    theta[[ALWAYS, EQUAL, RARE]] = 0.25
    W_enc[DEAD, DEAD] = 0
    b_enc = draw.integers(-2, 1, D_SAE) / 4
    b_enc[:4] = 0
    b_enc += (k is not None) * np.arange(D_SAE) / 256  # no ties between latents of a row
    config = {"d_in": D, "d_sae": D_SAE, "d_out": D, "k": k, "model_fingerprint": "f00d"}
    config |= {"site": "resid_post.1", "target_site": target_site}
    encoder, bias, theta = (torch.from_numpy(a).float() for a in (W_enc, b_enc, theta))
    decoder = torch.ones(D_SAE, D), torch.zeros(D)
    return SAE(SAEConfig.model_validate(config), encoder, bias, *decoder, theta)


def make_world(
    folder: Path, k: int | None = None, target_site: str | None = None, packed: bool = True
) -> World:
    """Writes tokens, rows in eight buckets, and an SAE."""
    sequences = make_sequences()
    said = {"settings": {"packing": "concatenate" if packed else "document", "seed": 3}}
    tokens = TokenStore.create(
        folder / "tokens", context=CONTEXT, bos=BOS, eos=EOS, pad=PAD, provenance=said
    )
    tokens.write({"train": sequences})
    mask = Mask((PAD, EOS, BOS))
    plan = Plan(sequences.astype(np.uint32), mask)
    origin = {"model": "tiny", "model_fingerprint": "f00d", "tokens": tokens.fingerprint}
    spec = StoreSpec(
        sites={"resid_post.1": D, "mlp_out.1": D},
        rows=plan.rows,
        bucket_rows=192,
        chunk_rows=32,
        shard_rows=96,
        codec="float32",
        provenance=origin | {"split": "train", "context": CONTEXT},
    )
    write_rows(str(folder / "store"), spec, plan, mask, sequences)
    sae = make_sae(k, target_site)
    sae.save(folder / "sae")
    given = {name: str(folder / name) for name in ("tokens", "store", "sae", "out")}
    given |= {"model": "tiny", "device": "cpu", "before": 4, "after": 2, "top": 4, "per_band": 2}
    return World(given, everything(folder, sae, sequences, packed), sequences)


def write_rows(
    url: str, spec: StoreSpec, plan: Plan, mask: Mask, sequences: np.ndarray, seed: int = 0
) -> None:
    """The activation store."""
    rows, ids = make_rows(plan.rows, seed), sequences.astype(np.uint32)
    with StoreWriter.open(url, spec) as writer:
        for number in range(writer.n_buckets):
            start, stop = writer.bucket_range(number)
            with writer.bucket(number) as bucket:
                for block in plan.part(start, stop).blocks(ids, mask, 7):
                    n = len(block.flat)
                    x = dict.fromkeys(spec.sites, rows[start : start + n])
                    start += n
                    bucket.append(x, block.token, block.sequence, block.position)


def everything(folder: Path, sae: SAE, sequences: np.ndarray, packed: bool) -> slow.Everything:
    """All rows as the store has them, with the documents that they are of."""
    store = ActivationStore.open(str(folder / "store"))
    labels = store.labels(0, store.rows)
    order = sequence_order(len(sequences), 3, "train") if packed else None
    numbers = slow.documents_of(sequences, EOS, order)
    places = zip(labels.sequence, labels.position, strict=True)
    f = slow.encode(sae, store.read("resid_post.1", 0, store.rows))
    return slow.Everything(f, *labels, [numbers[s][p] for s, p in places])


def first_rows(world: World, n: int) -> World:
    """The same with the first rows alone."""
    a = world.all
    columns = (a.f[:n], a.token[:n], a.sequence[:n], a.position[:n], a.document[:n])
    return replace(world, all=slow.Everything(*columns))


@pytest.fixture(scope="session")
def _worlds(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., World]:
    made: dict[str, World] = {}

    def make(**options: Any) -> World:
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = make_world(tmp_path_factory.mktemp("world"), **options)
        return made[key]

    return make


@pytest.fixture
def make_index(_worlds: Callable[..., World], tmp_path: Path) -> Callable[..., World]:
    """Makes a world, once for all tests, with a folder of its own for the index."""

    def make(**options: Any) -> World:
        world = _worlds(**options)
        return replace(world, given=world.given | {"out": str(tmp_path / "index")})

    return make


@pytest.fixture
def world(make_index: Callable[..., World]) -> World:
    """A JumpReLU SAE over a packed text."""
    return make_index()
