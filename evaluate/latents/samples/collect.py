"""Collecting the contexts of chosen latents from cached rows; no forward pass.

Owns the order of the work, and the checks that SAE, store and latents fit together. The steps are
in `contexts`, `sweep` and `draw`.
"""

from collections.abc import Sequence

import numpy as np

from ....store import ActivationStore, TokenStore
from ....train.sae.sae import SAE
from ...measure.top_activations import narrowed
from .contexts import Contexts, cut, rows_within
from .draw import draw
from .sample_set import Samples, UnigramTable
from .settings import SampleSettings
from .sweep import Encode, sweep, values

_PEAKS = 1 << 26
"""Contexts × latents held at a time: 256 MiB of float32."""


def collect(
    sae: SAE,
    store: ActivationStore,
    tokens: TokenStore,
    latents: Sequence[int],
    settings: SampleSettings | None = None,
    site: str | None = None,
) -> Samples:
    """Contexts that explain and contexts that test each of some latents, with their activations.

    Latents are taken in groups of 2^26 / contexts; each group reads the rows twice. The same inputs
    give the same contexts on any machine, and a latent's contexts do not depend on which other
    latents are asked for.

    Args:
        sae: the SAE or transcoder.
        store: cached activations of the site that it reads.
        tokens: the token store that the activations come from.
        latents: their numbers, each once.
        settings: how much text, how many contexts.
        site: the site, for an SAE whose files do not name it.

    Raises:
        ValueError: a latent does not exist or is given twice, the store has another site or width
            than the SAE, or the tokens are not the store's.
    """
    settings, site = settings or SampleSettings(), site or sae.config.site
    check(sae, store, latents, site)
    assert site is not None
    rows = rows_within(store, settings.rows)
    found = cut(store, tokens, rows, settings.context, settings.seed)
    size = max(1, _PEAKS // len(found))
    parts = []
    for first in range(0, len(latents), size):
        some = list(latents[first : first + size])
        encode = narrowed(sae, some)
        parts.append(_collected(store, site, encode, np.array(some), rows, found, settings))
    return joined(parts)


def check(sae: SAE, store: ActivationStore, latents: Sequence[int], site: str | None) -> None:
    """Refuses latents that do not exist, and a store of other activations than the SAE reads."""
    d_sae = sae.config.d_sae
    wrong = [latent for latent in latents if not 0 <= latent < d_sae]
    if wrong or not latents:
        got = wrong[0] if wrong else "none"
        raise ValueError(f"latents must be 0 … {d_sae - 1} in this SAE, got {got}")
    if len(set(latents)) != len(latents):
        double = next(latent for latent in latents if list(latents).count(latent) > 1)
        raise ValueError(f"latents must each be given once, got {double} twice")
    if site not in store.sites:
        raise ValueError(
            f"store {store.url} must have the site {site} that the SAE reads, got "
            f"{', '.join(store.sites)}; pass the store that the SAE was trained from"
        )
    if store.sites[site] != sae.config.d_in:
        raise ValueError(
            f"{site} of store {store.url} must have d_in ({sae.config.d_in}) columns, got "
            f"{store.sites[site]}; pass the store that the SAE was trained from"
        )


def _collected(
    store: ActivationStore,
    site: str,
    encode: Encode,
    latents: np.ndarray,
    rows: int,
    found: Contexts,
    settings: SampleSettings,
) -> Samples:
    """The contexts of one group of latents."""
    swept = sweep(store, site, encode, len(latents), rows, found)
    parts = [
        (np.full(len(number), k), np.full(len(number), kind), band, number)
        for k, latent in enumerate(latents)
        for kind, band, number in draw(
            int(latent), k, swept.peaks[:, k], found, swept.unigrams, settings
        )
    ]
    column, kind, band, number = (np.concatenate(part) for part in zip(*parts, strict=True))
    explains = swept.peaks[~found.tests]
    return Samples(
        latents=latents,
        rows=rows,
        fired=swept.fired,
        largest=explains.max(axis=0, initial=0),
        unigrams=swept.unigrams,
        column=column,
        kind=kind,
        quantile=band,
        sequence=found.sequence[number],
        start=found.start[number],
        tokens=found.tokens[number],
        f=values(store, site, encode, rows, found, column, number),
    )


def joined(parts: Sequence[Samples]) -> Samples:
    """Joins samples of several groups of latents that are from the same rows."""
    if len(parts) == 1:
        return parts[0]
    shifts = np.cumsum([0, *(len(part.latents) for part in parts)])
    tables = [part.unigrams for part in parts]
    starts = np.cumsum([0, *(len(table.fired) for table in tables)])
    offsets = [table.offsets[:-1] + start for table, start in zip(tables, starts, strict=False)]
    unigrams = UnigramTable(
        tables[0].token,
        tables[0].token_rows,
        np.concatenate([*offsets, starts[-1:]]),
        *(np.concatenate([getattr(t, name) for t in tables]) for name in _TABLES),
    )
    rows = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _ROWS}
    column = np.concatenate([p.column + s for p, s in zip(parts, shifts, strict=False)])
    return Samples(rows=parts[0].rows, unigrams=unigrams, column=column, **rows)


_TABLES = ("fired_at", "fired", "total")
_ROWS = ("latents", "fired", "largest", "kind", "quantile", "sequence", "start", "tokens", "f")
