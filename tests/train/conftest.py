"""Fixtures of the training tests: small real stores with latent structure, and quick settings."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scopeworks.store import StoreSpec, StoreWriter
from scopeworks.train.settings import TrainSettings

SITE = "resid_post.3"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """The matrices here are so small that a second thread only waits."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def sparse_rows(n_rows: int, d: int, seed: int, n_directions: int = 48, active: int = 4) -> Tensor:
    """Sums of a few of `n_directions` unit vectors with an offset: what SAEs are for."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(n_directions, d, generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    scores = torch.rand(n_rows, n_directions, generator=generator)
    chosen = scores >= scores.topk(active, dim=1).values[:, -1:]
    weights = chosen * (1 + torch.rand(n_rows, n_directions, generator=generator))
    return 5 * (weights @ directions) + 1.5


def write_store(
    folder: Path,
    widths: dict[str, int],
    rows: int = 2048,
    values: dict[str, Tensor] | None = None,
    dtype: str = "float32",
) -> str:
    """Writes a float32 store and returns its path; `values` replace a site's generated rows,
    `dtype` is what a model is said to have computed in."""
    spec = StoreSpec(
        sites=widths,
        rows=rows,
        bucket_rows=512,
        chunk_rows=64,
        shard_rows=512,
        codec="float32",
        seed=1,
        provenance={
            "model": "tiny",
            "model_fingerprint": "f00d",
            "dtype": dtype,
            "context": 64,
            "tokens": "somewhere",
        },
    )
    data = {site: sparse_rows(rows, d, seed=i) for i, (site, d) in enumerate(widths.items())}
    data |= values or {}
    url = str(folder / "store")
    writer = StoreWriter.open(url, spec)
    for i in range(writer.n_buckets):
        start, stop = writer.bucket_range(i)
        number = torch.arange(start, stop).numpy()
        with writer.bucket(i) as bucket:
            bucket.append(
                {site: t[start:stop] for site, t in data.items()},
                token=number % 97,
                sequence=number // 64,
                position=number % 64,
            )
    return url


@pytest.fixture(scope="session")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """2,048 rows of one 16-wide residual site, an 8-wide MLP site and a transcoder's input."""
    widths = {SITE: 16, "transcoder_in.3": 16, "mlp_out.3": 8}
    return write_store(tmp_path_factory.mktemp("activations"), widths)


@pytest.fixture
def settings(store_url: str, tmp_path: Path) -> Callable[..., TrainSettings]:
    """Settings of a run of a second or less; keyword arguments override them."""

    def make(out: str = "run", **overrides: Any) -> TrainSettings:
        steps = overrides.get("steps", 30)
        values = {
            "store": store_url,
            "site": SITE,
            "width": 48,
            "out": tmp_path / out,
            "steps": steps,
            "batch": 64,
            "sparsity": 3e-3,
            "lr": 2e-3,
            "lr_warmup_steps": min(10, steps - 1),
            "sparsity_warmup_steps": min(20, steps - 1),
            "bandwidth": 0.05,
            "theta_start": 0.05,
            "log_every": 10,
            "checkpoint_every": 7,
            "measure_rows": 256,
            "device": "cpu",
        }
        return TrainSettings.model_validate(values | overrides)

    return make
