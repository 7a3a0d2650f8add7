"""Sites: the places in a model whose activations are harvested, and how they are written.

Owns the names (`resid_post.12`) and the expansion of patterns (`resid_post.*`, `mlp_out.0-12`).
The model's family says where a site is in the running model, and how wide it is (`families`). In
Gemma 2 and 3:

| kind | tensor | width |
|---|---|---|
| `attn_out` | head outputs before W_O: the input of `self_attn.o_proj` | n_heads · head_dim |
| `transcoder_in` | RMS-normalised input of the MLP without the gain, norm ≈ √d_model | d_model |
| `mlp_in` | the same vector with the gain: the output of `pre_feedforward_layernorm` | d_model |
| `mlp_out` | MLP output after its RMSNorm, `post_feedforward_layernorm` | d_model |
| `resid_post` | residual stream after the MLP is added: the output of the decoder layer | d_model |
"""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from .families import FAMILIES, Family, family_of

_PLACES = {kind: place for family in FAMILIES for kind, place in family.sites.items()}

KINDS = tuple(_PLACES)
"""Every kind of site, in the order in which a decoder layer computes them."""

REPORTED = tuple(kind for kind, place in _PLACES.items() if place.in_report)
"""The kinds in the Gemma Scope report, which `*` stands for. mlp_in is not one of them: it is
transcoder_in times constants."""

_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_SHOWN_CHARACTERS = 60
_LAYER = re.compile("[0-9]{1,18}")


class Site(str):
    """One site: its kind and its layer, counted from 0 for the first block after the embedding.

    A site is a string, its name: `Site("resid_post", 12) == "resid_post.12"`. Wherever a site is
    taken, either of the two may be given.

    Raises:
        ValueError: there is no such kind, or the layer is not a whole number from 0 on.
    """

    __slots__ = ()

    def __new__(cls, kind: str, layer: int | None = None) -> "Site":
        """A site by kind and layer, or by its name alone."""
        if layer is None:
            return super().__new__(cls, _checked_name(kind))
        _check_kind(f"{kind}.{layer}", str(kind))
        if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0:
            raise ValueError(
                f"layer of a site must be a whole number from 0 on, got {_shown(str(layer))}; "
                f"for example Site({kind!r}, 12)"
            )
        return super().__new__(cls, f"{kind}.{layer}")

    @property
    def kind(self) -> str:
        """Which tensor of a layer it is, such as `resid_post`."""
        return self.partition(".")[0]

    @property
    def layer(self) -> int:
        """Number of the layer."""
        return int(self.partition(".")[2])

    @property
    def depth(self) -> tuple[int, int]:
        """Sorts sites in the order in which a forward pass reaches them."""
        return self.layer, KINDS.index(self.kind)

    def __repr__(self) -> str:
        return f"Site({self.kind!r}, {self.layer})"


def parse_site(text: str) -> Site:
    """The site with the name `<kind>.<layer>`; a `Site` as it is.

    Raises:
        ValueError: the text names no kind that exists, or no single layer.
    """
    return text if isinstance(text, Site) else Site(text)


def sites_in(sites: str | Iterable[str], n_layers: int, family: Family) -> list[Site]:
    """One site or several of a model, each a `Site`, its name or a pattern, in the order given.

    Raises:
        ValueError: one of them is no site.
    """
    one = isinstance(sites, str) or not isinstance(sites, Iterable)
    given: list[Any] = [sites] if one else list(sites)
    found: list[Site] = []
    for name in given:
        if isinstance(name, str) and any(sign in name for sign in "*-,"):
            found += expand_sites([name], n_layers, family)
        else:
            found.append(parse_site(name))
    return list(dict.fromkeys(found))


def _checked_name(text: str) -> str:
    """A site's name, checked: `<kind>.<layer>` without white space around it or leading zeros."""
    if not isinstance(text, str):
        raise ValueError(
            f"site must be <kind>.<layer>, got {_shown(repr(text))}; for example resid_post.12"
        )
    kind, _, layer = text.strip().partition(".")
    _check_kind(text, kind)
    if not _LAYER.fullmatch(layer):
        raise ValueError(f"site must be <kind>.<layer>, got {_shown(text)}; for example {kind}.12")
    return f"{kind}.{int(layer)}"


def expand_sites(
    patterns: Iterable[str], n_layers: int, family: Family | None = None
) -> list[Site]:
    """Expands site patterns against a model of `n_layers`, without repeats, in the order of the
    forward pass.

    A pattern is `<kind>.<layers>`; kind may be `*` (those of `REPORTED`), layers `*`, `12`,
    `0-12` or `3,5,7-9`.

    Args:
        patterns: one or several.
        n_layers: of the model.
        family: the model's, where it is known: `*` stands for its kinds alone.

    Raises:
        ValueError: a pattern names a kind or layer that does not exist (the text names those that
            do), or none is given.
    """
    sites = {site for pattern in patterns for site in _expand(pattern.strip(), n_layers, family)}
    if not sites:
        raise ValueError(
            "site must be given at least once, got none; for example --site resid_post.12"
        )
    return sorted(sites, key=lambda site: site.depth)


def site_width(site: str, config: Any) -> int:
    """How many numbers one token has at the site, by transformers' configuration."""
    return family_of(config).place(parse_site(site).kind).width(config)


def check_site(site: Site, n_layers: int) -> None:
    """Raises ValueError if a model of `n_layers` has no such site, naming those that exist."""
    if site.layer >= n_layers:
        raise ValueError(
            f"site {site} does not exist: the model has {n_layers} layers; "
            f"choose {site.kind}.0 to {site.kind}.{n_layers - 1}"
        )


def _expand(pattern: str, n_layers: int, family: Family | None) -> list[Site]:
    """One pattern's sites."""
    kind, _, layers = pattern.partition(".")
    if kind != "*":
        _check_kind(pattern, kind)
    if family is not None and kind != "*":
        family.place(kind)
    known = REPORTED if family is None else [each for each in REPORTED if each in family.sites]
    kinds = known if kind == "*" else (kind,)
    sites = [Site(kind, layer) for kind in kinds for layer in _layers(pattern, layers, n_layers)]
    for site in sites:
        check_site(site, n_layers)
    return sites


def _layers(pattern: str, text: str, n_layers: int) -> list[int]:
    """The layer numbers of `*` or of a comma-separated list of numbers and ranges."""
    if text == "*":
        return list(range(n_layers))
    layers: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(
                "site must be <kind>.<layers> with layers like 12, 0-12, 3,5,7-9 or *, "
                f"got {_shown(pattern)}"
            )
        # A range that goes far beyond the model is cut after its first layer that does not exist,
        # which the error then names.
        layers += range(first, min(last, max(n_layers, first)) + 1)
    return layers


def _check_kind(text: str, kind: str) -> None:
    """Raises ValueError for a kind that does not exist, with the nearest one that does."""
    if kind not in KINDS:
        close = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"site {_shown(text)} does not exist; {hint}the kinds are {', '.join(KINDS)}"
        )


def _shown(text: str) -> str:
    """What was given, cut short."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")
