"""A map of directions: each has a place in the plane, near the places of its neighbours.

Owns the layout of a graph of nearest neighbours by attraction along its edges and repulsion from
random others, as in LargeVis (arXiv 1602.00370) and UMAP (arXiv 1802.03426), with the kernel
1 / (1 + distance²). The input is whole numbers, and only sums, products and quotients are computed,
in a fixed order. So the same neighbours give the same map on any machine.
"""

import numpy as np
from jaxtyping import Float, Int

from ....caches import compiled

_REPELLED = 5
"""Random places from which an edge's first end is pushed away."""
_UPDATES = 2**29
"""About as many updates of a place are made, within the bounds on the rounds."""
_FEWEST, _MOST = 60, 400
"""Bounds on the number of rounds over all edges."""


def plane(neighbours: Int[np.ndarray, "n k"], seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """Places in [0, 1]², float32.

    Args:
        neighbours: row i holds the indices of direction i's nearest; -1 where there are fewer.
        seed: decides the first places and the random places to repel.
    """
    n = len(neighbours)
    places = np.random.default_rng(seed).random((n, 2)) * 10
    rounds = int(np.clip(_UPDATES // max(neighbours.size * (_REPELLED + 1), 1), _FEWEST, _MOST))
    if n > 1:
        _lay_out(places, np.ascontiguousarray(neighbours, np.int64), rounds, seed + 1)
    places -= places.min(0)
    return (places / max(places.max(), 1e-9)).astype(np.float32)


@compiled(nogil=True)
def _lay_out(
    places: Float[np.ndarray, "n 2"], neighbours: Int[np.ndarray, "n k"], rounds: int, seed: int
) -> None:
    """Moves both ends of every edge in turn, with steps that fall to 0."""
    n, k = neighbours.shape
    state = np.uint64(seed)
    for turn in range(rounds):
        rate = 1.0 - turn / rounds
        for i in range(n):
            for e in range(k):
                j = neighbours[i, e]
                if j < 0:
                    continue
                dx, dy = places[i, 0] - places[j, 0], places[i, 1] - places[j, 1]
                # The gradient of log(kernel): -2 d / (1 + |d|²).
                pull = -2.0 / (1.0 + dx * dx + dy * dy)
                x, y = _bounded(pull * dx) * rate, _bounded(pull * dy) * rate
                places[i, 0] += x
                places[i, 1] += y
                places[j, 0] -= x
                places[j, 1] -= y
                for _ in range(_REPELLED):
                    # A linear congruential generator (Knuth's MMIX), its upper bits.
                    state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                    other = np.int64((state >> np.uint64(33)) % np.uint64(n))
                    if other == i:
                        continue
                    dx, dy = places[i, 0] - places[other, 0], places[i, 1] - places[other, 1]
                    d2 = dx * dx + dy * dy
                    # The gradient of log(1 - kernel): 2 d / (|d|² (1 + |d|²)), finite at d = 0.
                    push = 2.0 / ((0.001 + d2) * (1.0 + d2))
                    places[i, 0] += _bounded(push * dx) * rate
                    places[i, 1] += _bounded(push * dy) * rate


@compiled(nogil=True)
def _bounded(x: float) -> float:
    """Limits a step, because the push is very strong between places that nearly coincide."""
    return min(max(x, -4.0), 4.0)
