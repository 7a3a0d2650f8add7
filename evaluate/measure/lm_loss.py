"""The language model's loss, with and without something spliced in.

Owns next-token losses and KL, the splice at chosen positions, and the recovered share. Hooks are in
`harvest.model.hooks`; the caller decides what is spliced in, and where.
"""

from collections.abc import Callable, Iterable, Iterator
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


def is_text(ids: Int[Tensor, "batch seq"], special: Int[Tensor, " n"]) -> Bool[Tensor, "batch seq"]:
    """True where a token is not special. Only such positions count.

    A chat's constant prefix and, on request, one part of a conversation do not count either;
    `inputs` decides that.
    """
    return ~torch.isin(ids, special)


def has_target(keep: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
    """True where a prediction counts: its position and the next one both count."""
    counted = torch.zeros_like(keep)
    counted[:, :-1] = keep[:, :-1] & keep[:, 1:]
    return counted


@dataclass(frozen=True)
class CleanRun:
    """An untouched forward pass, kept so that a splice computes only the layers after its site."""

    ids: Int[Tensor, "batch seq"]
    losses: Float[Tensor, "batch seq"]
    hidden: dict[int, Float[Tensor, "batch seq d_model"]]
    """The residual stream that entered the layers from which splices start."""
    calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]]
    """Other arguments (positional, keyword) of each decoder layer from the first start on."""
    last_hidden: Float[Tensor, "batch seq d_model"]
    """The normed last hidden states."""
    log_p: list[Float[Tensor, "rows vocabulary"]] | None
    """The clean log-probabilities of all positions but the last, in parts; None if too many to
    keep."""


def clean_run(
    lm: "LanguageModel", ids: Int[Tensor, "batch seq"], sites: Iterable[Site]
) -> CleanRun:
    """A clean run with its losses, and what splices at the sites need.

    Tensors are the model's own, not copies.
    """
    return with_losses(lm, untouched(lm, ids, sites))


def untouched(
    lm: "LanguageModel", ids: Int[Tensor, "batch seq"], sites: Iterable[Site]
) -> CleanRun:
    """A clean run up to the unembedding; `with_losses` computes its losses."""
    layers = decoder_of(lm).layers
    starts = {_start(site, len(layers)) for site in sites}
    run = CleanRun(ids, torch.empty(ids.shape), {}, {}, torch.empty(*ids.shape, 0), None)
    with ExitStack() as stack:
        for i in range(min(starts), len(layers)):
            hook = _remember_in(run, i, i in starts)
            stack.callback(layers[i].register_forward_pre_hook(hook, with_kwargs=True).remove)
        hidden = _last_hidden(lm, ids)
    return replace_field(run, last_hidden=hidden)


def with_losses(lm: "LanguageModel", run: CleanRun) -> CleanRun:
    """The run with the losses and the log-probabilities of its hidden states."""
    ids, hidden = run.ids, run.last_hidden
    held = ids.numel() * lm.config.vocab_size <= MAX_LOGITS
    log_p = list(_log_probabilities(lm, hidden)) if held else None
    losses = _losses(log_p or _log_probabilities(lm, hidden), ids)
    return replace_field(run, losses=losses, log_p=log_p)


def token_losses(lm: "LanguageModel", ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
    """Cross-entropy in nats of the token after each position; 0 at the last one, which has none.

    The same as transformers' causal model computes (final soft-cap included), but in parts of the
    tokens, and in float32 from the logits on whatever the model's dtype.
    """
    return _losses(_log_probabilities(lm, _last_hidden(lm, ids)), ids)


def spliced_losses(
    lm: "LanguageModel",
    clean: CleanRun,
    site: Site,
    values: Float[Tensor, "batch seq d"],
    where: Bool[Tensor, "batch seq"],
) -> Float[Tensor, "batch seq"]:
    """`token_losses` with `values` in place of the site's activations at the positions `where`.

    Other positions keep their activations. Only the layers after the site are computed. They are
    called with the arguments of the clean run, so a splice of the site's own values gives the clean
    losses bit for bit.
    """

    hidden = _spliced_hidden(lm, clean, site, values, where)
    return _losses(_log_probabilities(lm, hidden), clean.ids)


def spliced_losses_and_kl(
    lm: "LanguageModel",
    clean: CleanRun,
    site: Site,
    values: Float[Tensor, "batch seq d"],
    where: Bool[Tensor, "batch seq"],
) -> tuple[Float[Tensor, "batch seq"], Float[Tensor, "batch seq"]]:
    """`spliced_losses`, and KL(clean ‖ spliced) = Σ_v p_v (log p_v − log q_v) of the next token.

    Both are in nats, and 0 at the last position. The clean run keeps its distribution p if it fits
    `MAX_LOGITS`. If not, p is computed again from the kept hidden states, part by part, which costs
    one more unembedding. Either way, a splice of the site's own values gives a KL of exactly 0.
    """
    spliced = _log_probabilities(lm, _spliced_hidden(lm, clean, site, values, where))
    untouched = clean.log_p or _log_probabilities(lm, clean.last_hidden)
    losses, divergences = [], []
    for log_p, log_q, targets in zip(untouched, spliced, _parts(lm, clean.ids[:, 1:]), strict=True):
        losses.append(_nll(log_q, targets))
        divergences.append(_kl(log_p, log_q))
    return _by_sequence(losses, clean.ids), _by_sequence(divergences, clean.ids)


def rest_of_model(
    lm: "LanguageModel", clean: CleanRun, site: Site, fn: Callable[[Tensor], Tensor]
) -> Float[Tensor, "batch seq d_model"]:
    """The normed last hidden states, with fn(x) in place of the site's activations x."""
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
    """Float32 logits of normed last hidden states, soft-capped if the model's family does so."""
    logits = lm.model.get_output_embeddings()(hidden).float()
    entry = family_of(lm.config).soft_cap
    cap = None if entry is None else getattr(lm.config, entry)
    if cap is None:
        return logits
    if torch.is_grad_enabled():
        return torch.tanh(logits / cap) * cap
    return logits.div_(cap).tanh_().mul_(cap)  # in place: nothing else holds this tensor


def recovered_share(clean: float, spliced: float, ablated: float) -> float | None:
    """(ablated − spliced) / (ablated − clean), of three mean losses.

    1 for a perfect splice, 0 for one as bad as the ablation. Above 1 if the splice helps the model,
    below 0 if it is worse than the ablation. None if the ablation costs nothing.
    """
    cost = ablated - clean
    return (ablated - spliced) / cost if cost > 0 else None


def _start(site: Site, n_layers: int) -> int:
    """The layer from which a splice at the site computes again.

    For resid_post that is the next layer: its input is what the splice replaces.
    """
    after = site.kind == "resid_post" and site.layer + 1 < n_layers
    return site.layer + after


def _remember_in(run: CleanRun, i: int, is_start: bool) -> Callable[..., None]:
    """A hook that notes layer i's arguments; transformers passes the residual stream first."""

    def hook(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        run.calls[i] = args[1:], kwargs
        if is_start:
            run.hidden[i] = args[0]

    return hook


def _run_layers(lm: "LanguageModel", clean: CleanRun, first: int, hidden: Tensor) -> Tensor:
    """Calls the layers from `first` on with the clean run's arguments and this residual stream."""
    layers = decoder_of(lm).layers
    for i in range(first, len(layers)):
        args, kwargs = clean.calls[i]
        hidden = layers[i](hidden, *args, **kwargs)
    return hidden


def _last_hidden(lm: "LanguageModel", ids: Tensor) -> Tensor:
    """The normed last hidden states of an untouched pass."""
    return decoder_of(lm)(input_ids=ids, use_cache=False).last_hidden_state


def _spliced_hidden(
    lm: "LanguageModel", clean: CleanRun, site: Site, values: Tensor, where: Tensor
) -> Tensor:
    """The normed last hidden states with a splice."""

    def splice(x: Tensor) -> Tensor:
        return torch.where(where[..., None], values.to(x.dtype), x)

    return rest_of_model(lm, clean, site, splice)


def _parts(lm: "LanguageModel", values: Tensor) -> tuple[Tensor, ...]:
    """Values [batch, seq, …] as rows [batch · seq, …], in parts of at most MAX_LOGITS logits."""
    return values.flatten(0, 1).split(max(1, MAX_LOGITS // lm.config.vocab_size))


def _log_probabilities(lm: "LanguageModel", last_hidden: Tensor) -> Iterator[Tensor]:
    """Log-probabilities of the next token at all positions but the last, as parts of `_parts`."""
    for rows in _parts(lm, last_hidden[:, :-1]):
        yield logits_of(lm, rows).log_softmax(-1)


def _losses(log_q: Iterable[Tensor], ids: Tensor) -> Tensor:
    """Losses [batch, seq] from the parts of the log-probabilities."""
    targets, losses = ids[:, 1:].flatten(), []
    for part in log_q:
        losses.append(_nll(part, targets[: len(part)]))
        targets = targets[len(part) :]
    return _by_sequence(losses, ids)


def _nll(log_q: Tensor, targets: Tensor) -> Tensor:
    """−log q of the token that follows: its cross-entropy."""
    return -log_q.gather(1, targets[:, None])[:, 0]


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Σ_v p_v (log p_v − log q_v) of each row, summed in float64."""
    terms = (log_p - log_q).mul_(log_p.exp())
    return terms.sum(-1, dtype=torch.float64)


def _by_sequence(parts: list[Tensor], ids: Tensor) -> Tensor:
    """Values of all positions but the last as [batch, seq], 0 at the last."""
    return functional.pad(torch.cat(parts).view(len(ids), -1), (0, 1))
