"""What an index says of every latent, in float64 from all rows at once: slow and obvious, nothing
shared with `scopeworks.evaluate.latents`.

What is drawn at random is not drawn here: `firings_of` lists every firing, and the tests ask
whether what was drawn is among them, as often as it must be.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Everything:
    """All rows of a store, with what an SAE makes of them."""

    f: np.ndarray  # float64 [rows, d_sae]
    token: np.ndarray
    sequence: np.ndarray
    position: np.ndarray
    document: list[Any]
    """Of every row: any name."""


def encode(sae: Any, x: torch.Tensor) -> np.ndarray:
    """f [rows, d_sae], float64, row by row and latent by latent where an SAE has a k."""
    t = {name: value.double() for name, value in sae.tensors().items()}
    z = x.double() @ t["W_enc"] + t["b_enc"]
    f = torch.where((z > t["theta"]) & (z > 0), z, 0).numpy()
    if sae.config.k is not None:
        for row in f:
            weakest = sorted(range(len(row)), key=lambda j: -row[j])[sae.config.k :]
            row[weakest] = 0
    return f


def documents_of(sequences: np.ndarray, eos: int, order: np.ndarray | None) -> list[list[int]]:
    """The document of every token of a split, counted token by token."""
    numbers = [[0] * sequences.shape[1] for _ in sequences]
    number = 0
    for sequence in np.argsort(order) if order is not None else range(len(sequences)):
        for position, token in enumerate(sequences[sequence]):
            numbers[sequence][position] = number
            number += int(token == eos)
        number += order is None
    return numbers


def counts(all_: Everything, latent: int) -> dict[str, Any]:
    """Sums over a latent's firings."""
    f = [float(v) for v in all_.f[:, latent] if v > 0]
    return {
        "fired": len(f),
        "total": sum(f),
        "squares": sum(v * v for v in f),
        "smallest": min(f, default=0.0),
        "largest": max(f, default=0.0),
    }


def histogram(all_: Everything, latent: int, width: float, bins: int) -> list[int]:
    """Firings with k·width ≤ f < (k + 1)·width."""
    found = Counter(int(v // width) for v in all_.f[:, latent] if v > 0)
    return [found[k] for k in range(bins)]


def by_position(all_: Everything, latent: int, edges: list[int]) -> tuple[list[int], list[int]]:
    """Rows, and rows in which the latent fires, at positions [edge, next edge)."""
    pairs = list(pairwise(edges))
    rows = [sum(a <= p < b for p in all_.position) for a, b in pairs]
    fires = all_.position[all_.f[:, latent] > 0]
    return rows, [sum(a <= p < b for p in fires) for a, b in pairs]


def snippet(sequences: np.ndarray, sequence: int, position: int, before: int, after: int, pad: int):
    """First position and tokens of the snippet around a token: up to PAD, within the sequence."""
    start = max(0, position - before)
    tokens = []
    for p in range(start, min(position + after + 1, sequences.shape[1])):
        if p > position and sequences[sequence][p] == pad:
            break
        tokens.append(int(sequences[sequence][p]))
    return start, tokens


def strongest(
    all_: Everything, latent: int, sequences: np.ndarray, n: int, window: tuple[int, int, int]
) -> list[tuple[int, int]]:
    """(sequence, position) of the n strongest firings, each its document's strongest, of different
    tokens; ties go to the earlier. As the index does, among four times as many documents."""
    rows = [i for i in range(len(all_.f)) if all_.f[i, latent] > 0]
    rows.sort(key=lambda i: (-np.float32(all_.f[i, latent]), all_.sequence[i], all_.position[i]))
    best, seen, chosen, texts = [], set(), [], set()
    for i in rows:
        if all_.document[i] not in seen:
            seen.add(all_.document[i])
            best.append(i)
    for i in best[: 4 * n]:
        where = int(all_.sequence[i]), int(all_.position[i])
        text = tuple(snippet(sequences, *where, *window)[1])
        if text not in texts and len(chosen) < n:
            texts.add(text)
            chosen.append(where)
    return chosen


def firings_of(all_: Everything, latent: int) -> dict[tuple[int, int], float]:
    """(sequence, position) -> f of every firing."""
    rows = np.flatnonzero(all_.f[:, latent])
    return {(int(all_.sequence[i]), int(all_.position[i])): float(all_.f[i, latent]) for i in rows}


def band_of(all_: Everything, latent: int, where: tuple[int, int], n_bands: int) -> int:
    """1 … n_bands: by how many of all firings are before this one, strongest first."""
    found = firings_of(all_, latent)
    order = sorted(found, key=lambda place: (-np.float32(found[place]), place))
    return order.index(where) * n_bands // len(order) + 1


def partners(all_: Everything, latent: int, n: int) -> list[tuple[int, float, float]]:
    """(latent, jaccard, Pearson's r) of the n latents that fire together with it most."""
    own, found = all_.f[:, latent] > 0, []
    for j in range(all_.f.shape[1]):
        other = all_.f[:, j] > 0
        both = int((own & other).sum())
        if j == latent or both == 0:
            continue
        pair = np.stack([all_.f[:, latent], all_.f[:, j]])
        flat = (pair == pair[:, :1]).all(axis=1).any()
        r = 0.0 if flat else float(np.corrcoef(pair)[0, 1])
        found.append((j, both / int((own | other).sum()), r))
    return sorted(found, key=lambda item: (-item[1], item[0]))[:n]


def tokens_at(all_: Everything, places: list[tuple[int, int]]) -> Counter[int]:
    """How often each token is at these places."""
    at = dict(zip(zip(all_.sequence, all_.position, strict=True), all_.token, strict=True))
    return Counter(int(at[place]) for place in places)


def rows_of_token(all_: Everything) -> dict[int, int]:
    """Rows of every token."""
    found: dict[int, int] = defaultdict(int)
    for token in all_.token:
        found[int(token)] += 1
    return found
