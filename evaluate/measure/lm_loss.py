"""The language model's loss, with and without something spliced in.

Owns next-token losses, the splice that leaves special positions alone, and what a splice costs and
recovers. Hooks are `harvest.model.hooks`; what is spliced in is the caller's.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from dataclasses import replace as replace_field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ...harvest.model.families import family_of
from ...harvest.model.hooks import decoder_of, replace
from ...harvest.model.sites import Site

if TYPE_CHECKING:
    from ...harvest.model.loading import LanguageModel

MAX_LOGITS = 2**26
"""Logits held at once (256 MiB in float32): with Gemma's 256k tokens a whole batch of them would
not fit.
"""


def ordinary(
    ids: Int[Tensor, "batch seq"], special: Int[Tensor, " n"]
) -> Bool[Tensor, "batch seq"]:
    """Where a token is none of the special ones: the positions that count in every mean."""
    return ~torch.isin(ids, special)


def predicting(keep: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
    """Where a prediction counts: the position and the token to be predicted are both ordinary."""
    counted = torch.zeros_like(keep)
    counted[:, :-1] = keep[:, :-1] & keep[:, 1:]
    return counted


@dataclass(frozen=True)
class CleanRun:
    """An untouched forward pass, kept so that a splice need not compute again what lies before
    it.
    """

    ids: Int[Tensor, "batch seq"]
    losses: Float[Tensor, "batch seq"]
    hidden: dict[int, Float[Tensor, "batch seq d_model"]]
    """The residual stream that entered the layers from which splices start."""
    calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]]
    """What else each decoder layer from the first start on was called with."""


def clean_run(
    lm: "LanguageModel", ids: Int[Tensor, "batch seq"], sites: Iterable[Site]
) -> CleanRun:
    """`token_losses`, remembering what splices at the sites need. Tensors are the model's own, not
    copies.
    """
    layers = decoder_of(lm).layers
    starts = {_start(site, len(layers)) for site in sites}
    run = CleanRun(ids, torch.empty(ids.shape), {}, {})
    with ExitStack() as stack:
        for i in range(min(starts), len(layers)):
            hook = _remember_in(run, i, i in starts)
            stack.callback(layers[i].register_forward_pre_hook(hook, with_kwargs=True).remove)
        return replace_field(run, losses=token_losses(lm, ids))


def token_losses(lm: "LanguageModel", ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
    """Cross-entropy in nats of the token after each position; 0 at the last one, which has none.

    As transformers' causal model computes it (final soft-cap included), but in parts of the tokens
    and with float32 from the logits on, whatever the model's dtype.
    """
    return _losses(lm, decoder_of(lm)(input_ids=ids, use_cache=False).last_hidden_state, ids)


def spliced_losses(
    lm: "LanguageModel",
    clean: CleanRun,
    site: Site,
    values: Float[Tensor, "batch seq d"],
    where: Bool[Tensor, "batch seq"],
) -> Float[Tensor, "batch seq"]:
    """`token_losses` with `values` in place of the site's activations at the positions `where`; the
    others stay.

    Only what comes after the site is computed: the very layers of the clean run are called again
    with what they were called with then, so a splice of the site's own values gives the clean
    losses bit for bit.
    """

    def splice(x: Tensor) -> Tensor:
        return torch.where(where[..., None], values.to(x.dtype), x)

    return _losses(lm, rest_of_model(lm, clean, site, splice), clean.ids)


def rest_of_model(
    lm: "LanguageModel", clean: CleanRun, site: Site, fn: Callable[[Tensor], Tensor]
) -> Float[Tensor, "batch seq d_model"]:
    """The normed last hidden states with fn(x) in place of the site's activations x."""
    start = _start(site, len(decoder_of(lm).layers))
    if start > site.layer:
        hidden = _run_layers(lm, clean, start, fn(clean.hidden[start]))
    else:
        with replace(lm, site, fn):
            hidden = _run_layers(lm, clean, start, clean.hidden[start])
    decoder = decoder_of(lm)
    return decoder.get_submodule(family_of(lm.config).final_norm)(hidden)


def logits_of(
    lm: "LanguageModel", hidden: Float[Tensor, "rows d_model"]
) -> Float[Tensor, "rows vocabulary"]:
    """Float32 logits, soft-capped where the family does, of normed last hidden states."""
    logits = lm.model.get_output_embeddings()(hidden).float()
    entry = family_of(lm.config).soft_cap
    cap = None if entry is None else getattr(lm.config, entry)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def recovered_share(clean: float, spliced: float, ablated: float) -> float | None:
    """(ablated − spliced) / (ablated − clean): 1 for a perfect splice, 0 for one as bad as the
    ablation.

    May leave [0, 1]: above if the splice helps the model, below if it hurts more than the ablation.
    None if the ablation costs nothing, where the share means nothing.
    """
    cost = ablated - clean
    return (ablated - spliced) / cost if cost > 0 else None


class PairedDelta:
    """Mean difference of two losses per token, with its standard error over sequences.

    Tokens of one sequence are not independent, so the error is that of a ratio of sums over
    sequences: sqrt(S/(S−1) · Σ_s (D_s − m·n_s)²) / Σ_s n_s for S sequences with differences D_s
    over n_s tokens and mean m.
    """

    def __init__(self) -> None:
        self._deltas: list[Tensor] = []
        self._counts: list[Tensor] = []

    def add(
        self,
        counted: Bool[Tensor, "batch seq"],
        loss: Float[Tensor, "batch seq"],
        base: Float[Tensor, "batch seq"],
    ) -> None:
        """Adds a batch of sequences."""
        delta = torch.where(counted, loss.double() - base.double(), 0.0)
        self._deltas.append(delta.sum(1).cpu())
        self._counts.append(counted.sum(1).cpu())

    def mean_and_error(self) -> tuple[float, float | None]:
        """Mean and standard error in nats per token; no error from a single sequence."""
        delta, count = torch.cat(self._deltas), torch.cat(self._counts).double()
        n = len(delta)
        mean = delta.sum() / count.sum()
        if n == 1:
            return float(mean), None
        spread = (delta - mean * count).square().sum() * n / (n - 1)
        return float(mean), float(spread.sqrt() / count.sum())


def _start(site: Site, n_layers: int) -> int:
    """The layer whose input a splice at the site starts from: the next one for the residual stream
    after a layer.
    """
    after = site.kind == "resid_post" and site.layer + 1 < n_layers
    return site.layer + after


def _remember_in(run: CleanRun, i: int, is_start: bool) -> Callable[..., None]:
    """A hook that notes what layer i is called with; transformers passes the residual stream
    first.
    """

    def hook(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        run.calls[i] = args[1:], kwargs
        if is_start:
            run.hidden[i] = args[0]

    return hook


def _run_layers(lm: "LanguageModel", clean: CleanRun, first: int, hidden: Tensor) -> Tensor:
    """Calls the layers from `first` on as the clean run did, but with another residual stream."""
    layers = decoder_of(lm).layers
    for i in range(first, len(layers)):
        args, kwargs = clean.calls[i]
        hidden = layers[i](hidden, *args, **kwargs)
    return hidden


def _losses(lm: "LanguageModel", last_hidden: Tensor, ids: Tensor) -> Tensor:
    """Losses from the normed last hidden states."""
    hidden, targets = last_hidden[:, :-1].flatten(0, 1), ids[:, 1:]
    size = max(1, MAX_LOGITS // lm.config.vocab_size)
    parts = zip(hidden.split(size), targets.flatten().split(size), strict=True)
    losses = torch.cat(
        [functional.cross_entropy(logits_of(lm, h), t, reduction="none") for h, t in parts]
    )
    return functional.pad(losses.unflatten(0, targets.shape), (0, 1))
