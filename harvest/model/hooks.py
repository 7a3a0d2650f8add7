"""Hooks: reading and replacing activations inside a running model.

Owns the hooks on transformers' modules, and nothing else: one `visit` function per hook sees the
site's tensor and may return another one in its place. `capture`, `replace` and `forward_until` are
three uses of that. Which module a site is at its family says (`families`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .families import SiteModule, family_of
from .sites import Site, check_site

Visit = Callable[[Tensor], Tensor | None]
"""Sees a site's tensor [batch, seq, d]; what it returns, unless None, takes the tensor's place."""

Take = Callable[[Site, Tensor], Tensor]
"""What to keep of a site's tensor."""

Gain = Callable[[Tensor], Tensor]
"""What a norm multiplies by, from its weight."""


@contextmanager
def capture(
    model: Any, sites: Iterable[Site], take: Take | None = None
) -> Iterator[dict[str, Tensor]]:
    """Collects the sites' activations [batch, seq, d] of every forward pass run inside the block.

    The dictionary fills while the model runs, so a `replace` at a later site can read an earlier
    one from it; a second forward pass overwrites the first. Tensors are the model's own (its dtype
    and device), not copies.

    Args:
        model: a model of transformers or a `LanguageModel`.
        sites: what to collect; read as captured[str(site)].
        take: what to keep of each tensor, as it is computed; all of it by default. The rest of it
            is freed as the forward pass goes on, however many sites there are.

    Raises:
        ValueError: the model has no such site.
    """
    captured: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(_attached(model, site, _store_in(captured, site, take)))
        yield captured


@contextmanager
def replace(
    model: Any,
    site: Site,
    fn: Callable[[Float[Tensor, "batch seq d"]], Float[Tensor, "batch seq d"]],
) -> Iterator[None]:
    """Splices fn(x) in at the site for every forward pass run inside the block.

    The result is cast to the model's dtype. At `transcoder_in`, fn sees and returns the normalised
    vector without the gain; the norm's gain is applied to what it returns.

    Raises:
        ValueError: the model has no such site; fn returned another shape.
    """

    def visit(x: Tensor) -> Tensor:
        spliced = fn(x)
        if spliced.shape != x.shape:
            raise ValueError(
                f"the replacement at {site} must have shape {list(x.shape)}, "
                f"got {list(spliced.shape)}"
            )
        return spliced.to(x.dtype)

    with _attached(model, site, visit):
        yield


def forward_until(
    model: Any,
    input_ids: Int[Tensor, "batch seq"],
    sites: Iterable[Site],
    take: Take | None = None,
) -> dict[str, Tensor]:
    """Runs the decoder without gradients only as far as the last of the sites; returns them
    [batch, seq, d] by name.

    Nothing after that site is computed: not the rest of its layer, no later layer, never the final
    norm or lm_head. What is returned is bit-equal to what a whole forward pass computes. `take` is
    as in `capture`.

    Raises:
        ValueError: the model has no such site.
    """
    last = max(sites := list(sites), key=lambda site: site.depth)
    with ExitStack() as stack:
        captured = stack.enter_context(capture(model, sites, take))
        stack.enter_context(_attached(model, last, _stop))
        stack.enter_context(torch.no_grad())
        with suppress(_Reached):
            decoder_of(model)(input_ids=input_ids, use_cache=False)
    return captured


def decoder_of(model: Any) -> Any:
    """The stack of decoder layers inside a `LanguageModel`, a causal LM, or the stack itself."""
    while not hasattr(model, "layers"):
        model = model.model
    return model


class _Reached(Exception):
    """Leaves a forward pass at its last site: control flow, not an error."""


def _stop(_x: Tensor) -> None:
    raise _Reached


def _store_in(captured: dict[str, Tensor], site: Site, take: Take | None) -> Visit:
    """A visit that leaves the tensor as it is and notes what is taken of it."""

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
        # The module normalises and applies the gain in one go, in float32; the vector between the
        # two is remade here.
        x = args[0].float()
        normalised = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.eps)
        replaced = visit(normalised.to(output.dtype))
        if replaced is None:
            return None
        return (replaced.float() * gain(norm.weight.float())).to(output.dtype)

    return module.register_forward_hook(hook)
