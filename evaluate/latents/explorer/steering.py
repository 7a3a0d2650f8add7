"""SteeredModel: which latents fire in a text, and what a model writes once some are changed.

    x ← x + (f_new − f_old) · d        x: activation at the site that the SAE writes
                                       d: the latent's row of W_dec

The part of x that the SAE does not reconstruct stays in x, so without a change the model computes
what it computes without the SAE. A transcoder's f is encoded at the site that it reads; d is added
at its target site. Owns the splice and the sampling, but not the page's requests (`playground`).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ....arguments import dtype_name, number, several, whole
from ....harvest.model.hooks import capture, decoder_of, forward_until, replace
from ....harvest.model.sites import Site, check_site, parse_site, site_width
from ....harvest.model.vocabulary import Ids, check_context
from ....train.sae.sae import SAE
from ...measure.inputs import check_model, is_open

Kind = Literal["off", "add", "set"]

_OVERFLOW = "value must leave the model's numbers finite; take smaller ones"


@dataclass(frozen=True)
class LatentChange:
    """How one latent is changed, at every token from position `start` on.

    Raises:
        ValueError: kind is not off, add or set; latent or start is not a whole number from 0 on; or
            value is not a number.
    """

    latent: int
    kind: Kind
    """off: f_new = 0; add: f_new = f_old + value; set: f_new = value."""
    value: float = 0.0
    start: int = 0
    """Position of the first token at which the latent is changed; 0 is the sequence's first."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be off, add or set, got {self.kind!r:.80}")
        for name in ("latent", "start"):
            object.__setattr__(self, name, whole(name, getattr(self, name), 0))
        object.__setattr__(self, "value", number("value", self.value))


class SteeredModel:
    """A model and an SAE of one of its sites.

        steered = SteeredModel(lm, sae)
        ids, p = steered.continued("The capital of", LatentChange(498, "add", 20), n_tokens=10)
        with steered.changed(LatentChange(498, "off")):
            lm.generate("The capital of")

    Args and attributes:
        model: a `LanguageModel`, or transformers' causal model.
        sae: on the model's device, float32.
        reads: the site whose activations the SAE encodes; None takes the site that the SAE names.
        writes: the site at which decoder rows are added; None takes the target site that the SAE
            names, and `reads` for an SAE that is no transcoder.
        other_model: whether the SAE may be of another model than a `LanguageModel` is, as one of a
            base model on its instruction-tuned twin.

    Raises:
        ValueError: model or sae is of another type; the SAE is not float32, or was trained on
            another model; a site differs from the one that the SAE names,
            is not in the model, or has another width than the SAE; a site is neither given nor
            named by the SAE; writes comes before reads in the model.
    """

    def __init__(
        self,
        model: Any,
        sae: SAE,
        reads: str | None = None,
        writes: str | None = None,
        *,
        other_model: bool = False,
    ) -> None:
        if not isinstance(sae, SAE):
            got = f"{sae!r:.80}" if isinstance(sae, str) else type(sae).__name__
            raise ValueError(f"sae must be an SAE, got {got}; scopeworks.SAE.load reads one")
        if sae.W_enc.dtype != torch.float32:
            raise ValueError(
                f"sae must be float32, got {dtype_name(sae.W_enc.dtype)}; take "
                "sae.to(dtype='float32')"
            )
        if hasattr(model, "fingerprint") and not other_model:
            check_model(sae.source or sae.path or str(sae.config.site), sae.config, model)
        self.model, self.sae = model, sae
        self.reads, self.writes = _sites(model, sae, reads, writes)

    def __repr__(self) -> str:
        model = self.model if hasattr(self.model, "as_setting") else type(self.model).__name__
        return f"SteeredModel({model}, {self.sae})"

    def features(self, text: Ids) -> Float[Tensor, "seq d_sae"]:
        """f of every token of a text; `text` is as in `continued`."""
        with torch.no_grad():
            x = forward_until(self.model, self._ids(text), [self.reads])[str(self.reads)]
            return self.sae.encode(x[0].float())

    @contextmanager
    def changed(self, changes: LatentChange | Sequence[LatentChange]) -> Iterator["_Splice"]:
        """Applies one change or several in every forward pass inside the block.

        Positions go on from pass to pass, as in generation with a cache: the first token of a pass
        comes after the last token of the pass before. So use one block for each sequence. A pass
        raises ValueError if a change makes an activation too large for the model to normalise.

        Raises:
            ValueError: a change is not a `LatentChange`, or the SAE has no such latent.
        """
        changes = self._checked(changes)
        splice = _Splice(self.sae, changes)
        with ExitStack() as stack:
            if changes:
                same = self.reads == self.writes
                seen = stack.enter_context(capture(self.model, [self.reads])) if not same else None
                read = str(self.reads)
                stack.enter_context(
                    replace(
                        self.model,
                        self.writes,
                        lambda x: splice(x, x if seen is None else seen[read]),
                    )
                )
            yield splice

    def continued(
        self,
        text: Ids,
        changes: LatentChange | Sequence[LatentChange],
        n_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        stop: int | Iterable[int] = (),
    ) -> tuple[list[int], Float[Tensor, " vocabulary"]]:
        """What the model writes after a text.

        Each step draws a uniform number u in [0, 1) and takes the token at which the cumulative
        probabilities pass u. The numbers depend on the seed alone, so two continuations with one
        seed differ only by the changes.

        Args:
            text: one sequence as `LanguageModel.ids` takes it: a text or token ids. If the model
                is transformers' own, a tensor of ids [1, seq].
            changes: one change or several; [] for the model as it is.
            n_tokens: the largest number of new tokens, >= 1.
            temperature: 0 takes the most probable token.
            seed: seed of the uniform numbers, >= 0.
            stop: token id or ids; the text ends after the first of them.

        Returns:
            The new tokens' ids, and the probabilities of the first of them at temperature 1.

        Raises:
            ValueError: an argument is not as described, the new tokens do not fit in the model's
                context, the SAE has no such latent, or the changes make the model's activations or
                logits infinite or NaN.
        """
        n_tokens, ids = whole("n_tokens", n_tokens, 1), self._ids(text)
        stops = {whole("stop", token) for token in several(stop)}
        name = getattr(self.model, "name", type(self.model).__name__)
        check_context(ids.shape[1] + n_tokens, self.model.config, name)
        temperature, seed = number("temperature", temperature), whole("seed", seed, 0)
        uniform = torch.rand(n_tokens, generator=torch.Generator().manual_seed(seed))
        written: list[int] = []
        first: Tensor | None = None
        past, step = None, ids
        with torch.no_grad(), self.changed(changes):
            for u in uniform.tolist():
                got = _causal(self.model)(input_ids=step, past_key_values=past, use_cache=True)
                logits, past = got.logits[0, -1].float(), got.past_key_values
                if not logits.isfinite().all():
                    raise ValueError(_OVERFLOW)
                first = logits.softmax(-1) if first is None else first
                written.append(_drawn(logits, temperature, u))
                if written[-1] in stops:
                    break
                step = ids.new_tensor([[written[-1]]])
        assert first is not None
        return written, first

    def _ids(self, text: Ids) -> Int[Tensor, "1 seq"]:
        """The ids of one sequence."""
        if hasattr(self.model, "ids"):
            ids = self.model.ids(text)
        elif isinstance(text, Tensor) and text.ndim == 2:
            ids = text
        else:
            raise ValueError(
                f"text must be a tensor of token ids [1, seq], got {type(text).__name__}; "
                "a model of scopeworks.load_model takes texts, too"
            )
        if len(ids) != 1:
            raise ValueError(f"text must be one sequence, got {len(ids)}; pass one after the other")
        return ids

    def _checked(self, changes: LatentChange | Sequence[LatentChange]) -> list[LatentChange]:
        """The changes as a list, after a check that the SAE has their latents."""
        found, d_sae = list(several(changes)), self.sae.config.d_sae
        for change in found:
            if not isinstance(change, LatentChange):
                got = type(change).__name__
                raise ValueError(f"changes must be LatentChange or a list of them, got {got}")
            if change.latent >= d_sae:
                raise ValueError(f"latent must be 0 to {d_sae - 1}, got {change.latent}")
        return found


class _Splice:
    """Changes an activation x [1, seq, d_out]; its tokens follow those of the call before."""

    def __init__(self, sae: SAE, changes: Sequence[LatentChange]):
        self._sae, self._changes, self._seen = sae, changes, 0

    def __call__(self, x: Tensor, source: Tensor) -> Tensor:
        start, self._seen = self._seen, self._seen + x.shape[1]
        positions = torch.arange(start, self._seen, device=x.device)
        f = self._sae.encode(source.float())
        delta = torch.zeros_like(x, dtype=torch.float32)
        for change in self._changes:
            by = _difference(change, f[..., change.latent])
            by = torch.where(positions >= change.start, by, 0)
            delta += by[..., None] * self._sae.W_dec[change.latent]
        # Added in float32, because bfloat16 would round small changes away. Unchanged rows stay x.
        there = torch.where((delta != 0).any(-1, keepdim=True), x.float() + delta, x.float())
        # The model's norms would divide by an infinite mean of squares, and all would be 0.
        if not there.square().sum(-1).isfinite().all():
            raise ValueError(_OVERFLOW)
        return there


def _sites(model: Any, sae: SAE, reads: str | None, writes: str | None) -> tuple[Site, Site]:
    """The sites that the SAE reads and writes, checked against the SAE and the model."""
    decoder, config = decoder_of(model), sae.config
    source = _site("reads", reads, config.site)
    own = config.target_site or (None if is_open(config, "target_site") else config.site)
    default = None if config.is_transcoder or config.d_in != config.d_out else source
    target = _site("writes", writes, own, default)
    for name, site, width in (("reads", source, config.d_in), ("writes", target, config.d_out)):
        check_site(site, len(decoder.layers))
        if (there := site_width(site, decoder.config)) != width:
            raise ValueError(
                f"{name} must be a site of width {width}, as the SAE is, got {site} of width "
                f"{there}; take the model and the site that the SAE was trained on"
            )
    if target.depth < source.depth:
        raise ValueError(f"writes must not come before reads ({source}), got {target}")
    return source, target


def _site(name: str, given: str | None, own: str | None, default: str | None = None) -> Site:
    """The site that is given, or the SAE's own, or `default`; given and own must agree."""
    if given is None and (given := own or default) is None:
        raise ValueError(
            f"{name} must be given, because the SAE names no such site, got None; "
            f"for example {name}='resid_post.12'"
        )
    site = parse_site(given)
    if own is not None and site != parse_site(own):
        raise ValueError(f"{name} must be {own}, the site of the SAE, got {site}; leave it out")
    return site


def _difference(change: LatentChange, f: Tensor) -> Tensor:
    """f_new − f_old."""
    if change.kind == "add":
        return torch.full_like(f, change.value)
    return (change.value if change.kind == "set" else 0.0) - f


def _causal(model: Any) -> Any:
    """transformers' model with the head that gives logits."""
    return model if hasattr(model, "lm_head") else model.model


def _drawn(logits: Float[Tensor, " vocabulary"], temperature: float, u: float) -> int:
    """The token at which the cumulative probabilities pass u; at temperature 0 the likeliest."""
    if temperature <= 0:
        return int(logits.argmax())
    logits = logits.double()
    steps = ((logits - logits.max()) / temperature).softmax(-1).cumsum(-1)
    return min(int(torch.searchsorted(steps, u * float(steps[-1]), right=True)), len(steps) - 1)
