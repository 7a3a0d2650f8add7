"""An index of made-up latents: contents of the shapes that the pass and the weights give."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scopeworks.evaluate.latents.contents import Directions, Examples, Firings, Nearest
from scopeworks.evaluate.latents.files.folder import write_index
from scopeworks.evaluate.latents.files.manifest import (
    Manifest,
    OtherFacts,
    SAEFacts,
    StoreFacts,
    TokensFacts,
)

VOCABULARY, ROWS, WINDOW, BANDS = 500, 10_000, 12, 5
HTML = "</script><b>&"
DEAD = 3
"""A latent that never fires."""
WIDER = "1" * 16
"""Fingerprint of the SAE that every index here is compared with."""


def text_of(token: int) -> str:
    """Text of a token: words, HTML, a line's end."""
    return {7: HTML, 8: "\n", 10: " é"}.get(token, f" t{token}")


def decode(ids: Sequence[int]) -> list[str]:
    return [text_of(i) for i in ids]


def manifest(d_sae: int, **sae: Any) -> Manifest:
    facts: dict[str, Any] = {"name": "made-up", "site": "resid_post.3", "fingerprint": "0" * 16}
    facts |= {"d_in": 16, "d_out": 16, "d_sae": d_sae} | sae
    return Manifest(
        sae=SAEFacts(**facts),
        model="tiny",
        tokenizer="f" * 16,
        store=StoreFacts(key="k", site="resid_post.3", rows=ROWS),
        tokens=TokensFacts(fingerprint="t", split="train", context=64),
        others=[OtherFacts(name="wider", fingerprint=WIDER)],
        settings={"window": WINDOW},
    )


def firings(d_sae: int, seed: int = 0) -> Firings:
    """Latents that fire up to 40 times; `DEAD` never."""
    draw = np.random.default_rng(seed)
    fired = draw.integers(1, 40, d_sae)
    fired[DEAD] = 0
    values = [draw.gamma(2.0, 2.0, n).astype(np.float32) for n in fired]
    bins, width = 64, np.full(d_sae, 0.5)
    histogram = np.zeros((d_sae, bins), np.int64)
    for i, v in enumerate(values):
        np.add.at(histogram[i], (v / 0.5).astype(int).clip(max=bins - 1), 1)
    largest = np.array([v.max(initial=0) for v in values])
    smallest = np.array([v.min() if len(v) else 0.0 for v in values])
    tokens = np.concatenate([np.full(min(n, 4), i) for i, n in enumerate(fired)])
    partners = (np.arange(d_sae)[:, None] + [1, 2]) % d_sae
    partners[DEAD] = -1
    return Firings(
        rows=ROWS,
        fired=fired,
        total=np.array([v.sum(dtype=np.float64) for v in values]),
        squares=np.array([(v.astype(np.float64) ** 2).sum() for v in values]),
        smallest=smallest,
        largest=largest,
        bin_width=width,
        histogram=histogram,
        position_edges=np.array([0, 16, 64]),
        position_rows=np.array([ROWS // 4, ROWS - ROWS // 4]),
        by_position=np.stack([fired // 2, fired - fired // 2], 1),
        drawn=fired,
        token_latent=tokens,
        token=draw.integers(0, VOCABULARY, len(tokens)),
        token_count=np.ones(len(tokens), np.int64),
        token_rows=draw.integers(1, 100, len(tokens)),
        together_rows=ROWS,
        partner=partners,
        jaccard=np.where(partners < 0, 0, 0.25).astype(np.float32),
        correlation=np.where(partners < 0, 0, 0.5).astype(np.float32),
        examples=_examples(values, draw),
    )


def _examples(values: list[np.ndarray], draw: np.random.Generator) -> Examples:
    """Up to two examples in each band, each with tokens of its own."""
    rows = []
    for latent, v in enumerate(values):
        order = -np.sort(-v)
        for band in range(BANDS + 1):
            share = order if band == 0 else np.array_split(order, BANDS)[band - 1]
            rows += [(latent, band, value) for value in share[:2]]
    n = len(rows)
    at = draw.integers(0, WINDOW // 2, n)
    tokens = draw.integers(0, VOCABULARY, (n, WINDOW))
    tokens[::3, WINDOW // 2 :] = -1
    f = np.zeros((n, WINDOW), np.float32)
    f[np.arange(n), at] = [value for _, _, value in rows]
    return Examples(
        latent=np.array([row[0] for row in rows]),
        band=np.array([row[1] for row in rows]),
        sequence=np.arange(n),
        position=at + 5,
        start=np.full(n, 5),
        value=f[np.arange(n), at],
        tokens=tokens,
        f=f,
    )


def directions(d_sae: int, seed: int = 0, transcoder: bool = False) -> Directions:
    draw = np.random.default_rng(seed + 1)
    order = draw.permuted(np.tile(np.arange(VOCABULARY), (d_sae, 1)), axis=1)
    by = -np.sort(-draw.random((d_sae, 10)), axis=1).astype(np.float32)
    near = Nearest((np.arange(d_sae)[:, None] + 1 + np.arange(8)) % d_sae, by[:, :8])
    return Directions(
        raised=order[:, :10],
        raised_by=by,
        lowered=order[:, 10:20],
        lowered_by=-by,
        logit_edges=np.tile(np.linspace(-1, 1, 33), (d_sae, 1)),
        logit_histogram=draw.integers(0, 50, (d_sae, 32)),
        masked={"special": 3, "byte": 256},
        decoder=near,
        encoder=near if transcoder else None,
        map=draw.random((d_sae, 2)).astype(np.float32),
        others={"wider": near},
        path="decoder row → final norm's gain → unembedding",
    )


def write(out: Path, d_sae: int = 80, seed: int = 0, **sae: Any) -> Manifest:
    """An index of d_sae made-up latents in `out`."""
    return write_index(
        out,
        manifest(d_sae, **sae),
        firings(d_sae, seed),
        directions(d_sae, seed, transcoder="target_site" in sae),
        decode,
        np.full(d_sae, 0.125, np.float32),
    )
