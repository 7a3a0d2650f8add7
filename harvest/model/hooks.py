"""Hooks: reading and replacing activations inside a running model.

Owns the hooks on transformers' modules, and nothing else: one `visit` function per hook sees the
site's tensor and may return another one in its place. `capture`, `replace` and `forward_until` are
three uses of that. The model's family says at which module a site is (`families`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .families import SiteModule, family_of
from .sites import Site, check_site, parse_site, sites_in

Visit = Callable[[Tensor], Tensor | None]
"""Sees a site's tensor [batch, seq, d]; what it returns, unless None, takes the tensor's place."""

Take = Callable[[Site, Tensor], Tensor]
"""What to keep of a site's tensor."""

Gain = Callable[[Tensor], Tensor]
"""What a norm multiplies by, from its weight."""


def capture(
    model: Any, sites: str | Iterable[str], take: Take | None = None
) -> AbstractContextManager[dict[str, Tensor]]:
    """Collects the sites' activations [batch, seq, d] of every forward pass run inside the block.

        with capture(lm, "resid_post.12") as x:
            lm("The capital of France is")
        x["resid_post.12"]

    The dictionary fills while the model runs, so a `replace` at a later site can read an earlier
    one from it; a second forward pass overwrites the first. Tensors are the model's own (its dtype
    and device), not copies.

    Args:
        model: a model of transformers or a `LanguageModel`.
        sites: a site or several, by name, as `Site` or as a pattern such as `resid_post.*`: what to
            collect, under its name.
        take: what to keep of each tensor, as it is computed; all of it by default. The rest of it
            is freed as the forward pass goes on, however many sites there are.

    Raises:
        ValueError: the model has no such site, or is not a loaded language model.
        KeyError: a site is read that no forward pass has reached.
    """
    return _Capturing(model, sites, take)


@contextmanager
def replace(
    model: Any,
    site: str,
    fn: Callable[[Float[Tensor, "batch seq d"]], Float[Tensor, "batch seq d"]],
) -> Iterator[None]:
    """Splices fn(x) in at the site for every forward pass run inside the block.

        with replace(lm, "resid_post.12", lambda x: x + 8 * sae.W_dec[latent]):
            print(lm.generate("The capital of France is"))

    With a cache, as in `generate`, x has the new tokens alone. What fn returns is cast to the
    model's dtype. At `transcoder_in`, fn sees and returns the normalised vector without the gain;
    the norm's gain is applied afterwards.

    Raises:
        ValueError: the model has no such site, or is not a loaded language model; fn is no
            function, or returned another shape.
    """
    if not callable(fn):
        raise ValueError(
            f"fn must be a function of the activations, got {type(fn).__name__}; "
            "for example lambda x: x + vector"
        )

    def visit(x: Tensor) -> Tensor:
        spliced = fn(x)
        if not isinstance(spliced, Tensor) or spliced.shape != x.shape:
            got = list(spliced.shape) if isinstance(spliced, Tensor) else type(spliced).__name__
            raise ValueError(
                f"the replacement at {site} must have shape {list(x.shape)}, got {got}"
            )
        return spliced.to(x.dtype)

    with _attached(model, parse_site(site), visit):
        yield


def forward_until(
    model: Any,
    input_ids: Int[Tensor, "batch seq"] | str | Sequence[Any],
    sites: str | Iterable[str],
    take: Take | None = None,
) -> dict[str, Tensor]:
    """Runs the decoder without gradients only as far as the last of the sites; returns them
    [batch, seq, d] by name.

    Nothing after that site is computed: not the rest of its layer, no later layer, never the final
    norm or lm_head. What is returned is bit-equal to what a whole forward pass computes.

    Args:
        model: a `LanguageModel` or a model of transformers.
        input_ids: token ids [batch, seq] on the model's device; a `LanguageModel` also takes a text
            and lists, as its `ids` does.
        sites: as in `capture`.
        take: as in `capture`.

    Raises:
        ValueError: the model has no such site, or is not a loaded language model; no site is given.
    """
    decoder = decoder_of(model)
    if not (wanted := _sites_of(decoder, sites)):
        raise ValueError("sites must hold at least one site, got none; for example resid_post.12")
    last = max(wanted, key=lambda site: site.depth)
    ids = input_ids if isinstance(input_ids, Tensor) else model.ids(input_ids)
    with ExitStack() as stack:
        captured = stack.enter_context(capture(model, wanted, take))
        stack.enter_context(_attached(model, last, _stop))
        stack.enter_context(torch.no_grad())
        with suppress(_Reached):
            decoder(input_ids=ids, use_cache=False)
    return captured


def decoder_of(model: Any) -> Any:
    """The stack of decoder layers inside a `LanguageModel`, a causal LM, or the stack itself.

    Raises:
        ValueError: it is none of them.
    """
    inner = model
    while not hasattr(inner, "layers"):
        inner = getattr(inner, "model", None)
        if inner is None:
            got = repr(model) if isinstance(model, str) else type(model).__name__
            raise ValueError(
                f"model must be a loaded language model, got {got:.80}; "
                "scopeworks.load_model(name) loads one"
            )
    return inner


class _Capturing(AbstractContextManager[dict[str, Tensor]]):
    """The block of `capture`."""

    def __init__(self, model: Any, sites: str | Iterable[str], take: Take | None):
        self._given, self._stack = (model, sites, take), ExitStack()

    def __enter__(self) -> dict[str, Tensor]:
        (model, sites, take), captured = self._given, _Captured()
        with ExitStack() as stack:
            for site in _sites_of(decoder_of(model), sites):
                stack.enter_context(_attached(model, site, _store_in(captured, site, take)))
            self._stack = stack.pop_all()
        return captured

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def __call__(self, *_args: Any, **_more: Any) -> NoReturn:
        raise ValueError(
            "capture must be used as a block, got a call; `with capture(lm, sites) as x: lm(text)`"
        )


class _Captured(dict[str, Tensor]):
    """What was captured, by the site's name."""

    def __missing__(self, site: str) -> Tensor:
        there = ", ".join(self) or "nothing: run the model inside the block"
        raise KeyError(f"no activations of {site} were captured; there is {there}")


class _Reached(Exception):
    """Leaves a forward pass at its last site: control flow, not an error."""


def _sites_of(decoder: Any, sites: str | Iterable[str]) -> list[Site]:
    """The sites of a decoder that names and patterns stand for."""
    return sites_in(sites, len(decoder.layers), family_of(decoder.config))


def _stop(_x: Tensor) -> None:
    raise _Reached


def _store_in(captured: dict[str, Tensor], site: Site, take: Take | None) -> Visit:
    """A visit that leaves the tensor as it is, and keeps what `take` takes of it."""

    def visit(x: Tensor) -> None:
        captured[str(site)] = x if take is None else take(site, x)

    return visit


@contextmanager
def _attached(model: Any, site: Site, visit: Visit) -> Iterator[None]:
    """Keeps `visit` hooked in at the site for the length of the block."""
    decoder = decoder_of(model)
    check_site(site, len(decoder.layers))
    family = family_of(decoder.config)
    place = family.place(site.kind)
    handle = _attach(decoder.layers[site.layer], place, family.gain, visit)
    try:
        yield
    finally:
        handle.remove()


def _attach(layer: nn.Module, place: SiteModule, gain: Gain, visit: Visit) -> RemovableHandle:
    """Hooks `visit` in where the family says the site is."""
    module: Any = layer.get_submodule(place.module)
    if place.side == "input":
        return _attach_input(module, visit)
    if place.side == "gainless":
        return _attach_gainless(module, gain, visit)
    return module.register_forward_hook(lambda _module, _args, output: visit(output))


def _attach_input(module: nn.Module, visit: Visit) -> RemovableHandle:
    def hook(_module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        replaced = visit(args[0])
        return None if replaced is None else (replaced,)

    return module.register_forward_pre_hook(hook)


def _attach_gainless(module: nn.Module, gain: Gain, visit: Visit) -> RemovableHandle:
    def hook(norm: Any, args: tuple[Tensor], output: Tensor) -> Tensor | None:
        # The module computes x · rsqrt(mean(x²) + eps) · gain in float32 and returns only that. The
        # vector before the gain is computed again here.
        x = args[0].float()
        normalised = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.eps)
        replaced = visit(normalised.to(output.dtype))
        if replaced is None:
            return None
        return (replaced.float() * gain(norm.weight.float())).to(output.dtype)

    return module.register_forward_hook(hook)
