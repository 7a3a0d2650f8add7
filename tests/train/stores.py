"""Small real activation stores whose rows have latent structure, for the tests of training."""

from pathlib import Path

import torch
from torch import Tensor

from scopeworks.store import StoreSpec, StoreWriter


def sparse_rows(n_rows: int, d: int, seed: int, n_directions: int = 48, active: int = 4) -> Tensor:
    """Rows that are sums of a few of `n_directions` unit vectors with an offset: what SAEs are for."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(n_directions, d, generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    scores = torch.rand(n_rows, n_directions, generator=generator)
    chosen = scores >= scores.topk(active, dim=1).values[:, -1:]
    weights = chosen * (1 + torch.rand(n_rows, n_directions, generator=generator))
    return 5 * (weights @ directions) + 1.5


def make_store(
    folder: Path,
    widths: dict[str, int] | None = None,
    rows: int = 2048,
    bucket_rows: int = 512,
    values: dict[str, Tensor] | None = None,
) -> str:
    """Writes a float32 store and returns its path; `values` replace the generated rows of a site."""
    widths = widths or {"resid_post.3": 16}
    spec = StoreSpec(
        sites=widths,
        rows=rows,
        bucket_rows=bucket_rows,
        codec="float32",
        seed=1,
        provenance={"model": "tiny", "context": 64, "tokens": "somewhere"},
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
