"""What an evaluation reads: SAEs that fit the model, and held-out sequences of its tokenizer.

Owns the checks that SAEs, model and tokens belong together. It checks what it can before it loads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ...harvest.model.sites import Site, check_site, parse_site, site_width
from ...harvest.model.vocabulary import check_context, tokenizer_fingerprint
from ...harvest.rows.prepare import special_ids
from ...harvest.tokens.splits import HELD_OUT, MORE_DOCUMENTS, PART_NUMBERS, PARTS
from ...store import TokenStore
from ...store.place.place import AnyPlace, Place
from ...train.sae.config import SAEConfig
from ...train.sae.sae import SAE
from .lm_loss import is_text
from .summaries import weights_summary

if TYPE_CHECKING:
    from ...harvest.model.loading import LanguageModel


@dataclass(frozen=True)
class PlacedSAE:
    """One SAE to be evaluated: the site it reads, the site it replaces, its name in the result."""

    name: str
    sae: SAE
    site: Site
    target: Site
    path: str | None = None
    """Where it was read from; for a hub's SAE with the commit."""
    weights: dict[str, Any] | None = None
    """`weights_summary` of the SAE as it is in its file."""
    norm_factors: dict[str, float] | None = None
    """Rescaling that `sae` already contains: the factor on activations before they are read
    (`site`), and what x̂ is divided by (`target_site`). None if not rescaled."""


@dataclass(frozen=True)
class Sequences:
    """A batch of sequences, and which of their positions are spliced and counted.

    `len` is the number of sequences.
    """

    ids: Int[Tensor, "batch seq"]
    is_text: Bool[Tensor, "batch seq"]
    """Positions of the kind that SAEs are trained on; these are spliced."""
    keep: Bool[Tensor, "batch seq"]
    """Those of `is_text` that count in every mean."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class HeldOut:
    """The first sequences of the held-out split (their order is already permuted), and which
    positions count.
    """

    sequences: Any
    n: int
    """How many are evaluated."""
    special: Int[Tensor, " n_special"]
    """Token ids that do not count: BOS, EOS and PAD."""
    prefix: int = 0
    """First positions that do not count: the constant prefix of a chat template."""
    parts: Any = None
    """The part of the conversation of each position, [n_sequences, context]; None if all count."""
    part: int = 0
    """The part that counts, if `parts` is given."""

    def batches(
        self, size: int, device: torch.device, first: int = 0, stop: int | None = None
    ) -> Iterator[Sequences]:
        """Sequences `first` to `stop` − 1 (by default n − 1) in order, `size` at a time."""
        stop = self.n if stop is None else stop
        for start in range(first, stop, size):
            rows = slice(start, min(start + size, stop))
            ids = _integers(self.sequences[rows], device)
            trained_on = is_text(ids, self.special)
            trained_on[:, : self.prefix] = False
            keep = trained_on
            if self.parts is not None:
                keep = trained_on & (_integers(self.parts[rows], device) == self.part)
            yield Sequences(ids, trained_on, keep)

    @property
    def context(self) -> int:
        """Tokens per sequence."""
        return int(self.sequences.shape[1])


def candidate(
    name: str,
    sae: SAE,
    lm: "LanguageModel",
    site: str | None = None,
    target_site: str | None = None,
    path: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> PlacedSAE:
    """Checks one SAE against the model's sites and widths and moves it to the model's device."""
    reads, writes = sites_of(name, sae.config, lm, site, target_site)
    where, here = None if path is None else str(path), sae.to(lm.device, dtype, copy=False)
    return PlacedSAE(name, here, reads, writes, where, weights_summary(here))


def check_model(name: str, config: SAEConfig, lm: "LanguageModel") -> None:
    """Refuses a model that is not the one whose activations the SAE was trained on.

    Raises:
        ValueError: the SAE's record names another model's weights.
    """
    recorded = config.model_fingerprint
    if recorded is not None and recorded != lm.fingerprint:
        raise ValueError(
            f"model of SAE {name} must be the one it was trained on, {config.model} "
            f"(fingerprint {recorded}), got {lm.name} ({lm.fingerprint}); pass that model, or "
            "other_model to take the SAE on this one"
        )


def sites_of(
    name: str,
    config: SAEConfig,
    lm: "LanguageModel",
    site: str | None = None,
    target_site: str | None = None,
) -> tuple[Site, Site]:
    """The sites that an SAE reads and replaces (`named_sites`), checked against the model.

    Raises:
        ValueError: a site is not known, or the model has no such site of the SAE's width.
    """
    reads, writes = named_sites(name, config, site, target_site)
    for what, width, where in (("d_in", config.d_in, reads), ("d_out", config.d_out, writes)):
        check_site(where, lm.config.num_hidden_layers)
        wanted = site_width(where, lm.config)
        if width != wanted:
            raise ValueError(
                f"{what} of SAE {name} must be {wanted}, the width of {where} in {lm.name}, got "
                f"{width}; "
                "pass the model it was trained on"
            )
    return reads, writes


def named_sites(
    name: str, config: SAEConfig, site: str | None = None, target_site: str | None = None
) -> tuple[Site, Site]:
    """The sites that an SAE reads and replaces.

    Args:
        name: the SAE's, for errors.
        config: the SAE's.
        site: for a file that does not name the site.
        target_site: for a file that does not name the target site.

    Raises:
        ValueError: a site is not known, or the one given contradicts the file.
    """
    own_site = _agreed(name, "site", config.site, site)
    if own_site is None:
        raise ValueError(
            f"site of SAE {name} must be known, but its file does not name it; pass site "
            "<kind>.<layer>"
        )
    own_target = _agreed(name, "target_site", config.target_site, target_site)
    if (
        target_site is not None
        and config.target_site is None
        and not is_open(config, "target_site")
    ):
        raise ValueError(
            f"target_site of SAE {name} must not be given, because its file says that it is an SAE "
            f"of {config.site} and no transcoder, got {target_site}; leave the setting out"
        )
    if own_target is None and config.is_transcoder:
        raise ValueError(
            f"target_site of SAE {name} must be known, because it is a transcoder, but its file "
            "does not name it; pass target_site <kind>.<layer>"
        )
    reads, writes = parse_site(own_site), parse_site(own_target or own_site)
    if writes.depth < reads.depth:
        raise ValueError(
            f"target_site of SAE {name} must not come before its site {reads}, got {writes}"
        )
    return reads, writes


def is_open(config: SAEConfig, what: str) -> bool:
    """Whether an SAE's file leaves open its `site` or its `target_site`.

    A file that names a site and no target site is of a plain SAE, unless it says that it is of a
    transcoder, or d_in and d_out differ.
    """
    if what == "site" or getattr(config, what) is not None:
        return getattr(config, what) is None
    return config.site is None or config.is_transcoder or config.d_in != config.d_out


def open_held_out(
    place: AnyPlace, lm: "LanguageModel", n_sequences: int, positions: str = "all"
) -> tuple[TokenStore, HeldOut]:
    """Opens the held-out split of a token store made with the model's tokenizer.

    Args:
        place: of the token store.
        lm: the model.
        n_sequences: how many to evaluate; fewer if the split has fewer.
        positions: which count: "all", or those of a conversation's "prompt" or "rollout".

    Raises:
        FileNotFoundError, ValueError: there is no such store, it has no held-out sequences or no
            parts of conversations, or its tokens are another tokenizer's.
    """
    tokens, url = TokenStore.open(place), Place.of(place).url
    if not tokens.splits.get(HELD_OUT):
        made_by = tokens.provenance.get("settings")
        share = made_by.get("held_out") if isinstance(made_by, dict) else None
        none = f"a share of {share} of its documents fills no sequence; {MORE_DOCUMENTS}"
        raise ValueError(
            f"token store {url} must have held-out sequences, got the splits "
            f"{', '.join(sorted(tokens.splits)) or 'none'}; "
            + (none if share else "tokenize again with a held-out share above 0")
        )
    _check_tokenizer(tokens, url, lm)
    check_context(tokens.context, lm.config, lm.name)
    held_out = _split(tokens, HELD_OUT, n_sequences, lm)
    return tokens, held_out if positions == "all" else _only(held_out, positions, tokens)


def subsets_of(tokens: TokenStore, n_sequences: int, lm: "LanguageModel") -> dict[str, HeldOut]:
    """The held-out splits of single subsets (`held_out.<name>`), by the subset's name.

    Raises:
        ValueError: the store has no subsets.
    """
    prefix = HELD_OUT + "."
    names = sorted(name for name in tokens.splits if name.startswith(prefix))
    if not names:
        raise ValueError(
            f"subsets must be in token store {tokens.url}, got only the splits "
            f"{', '.join(sorted(tokens.splits))}; tokenize with --subset-field"
        )
    return {name.removeprefix(prefix): _split(tokens, name, n_sequences, lm) for name in names}


def _split(tokens: TokenStore, name: str, n_sequences: int, lm: "LanguageModel") -> HeldOut:
    """The first sequences of a split."""
    n = min(n_sequences, tokens.splits[name])
    special = torch.tensor(special_ids(tokens), dtype=torch.int64, device=lm.device)
    prefix = tokens.provenance.get("masked_prefix", 0)
    return HeldOut(tokens.sequences(name), n, special, prefix)


def _only(held_out: HeldOut, positions: str, tokens: TokenStore) -> HeldOut:
    """The same sequences, with only one part of the conversations counted."""
    if tokens.splits.get(PARTS) != tokens.splits[HELD_OUT]:
        raise ValueError(
            f"token store {tokens.url} must tell prompts from rollouts for positions {positions}, "
            f"got the splits {', '.join(sorted(tokens.splits))}; pass tokens that "
            "`scopeworks rollouts` made"
        )
    part = PART_NUMBERS[positions]
    return replace(held_out, parts=tokens.sequences(PARTS), part=part)


def _integers(rows: Any, device: torch.device) -> Tensor:
    """Rows of a split, int64."""
    return torch.from_numpy(np.asarray(rows).astype(np.int64)).to(device)


def _agreed(name: str, what: str, recorded: str | None, given: str | None) -> str | None:
    """The site recorded in the SAE's file, or the given one; if both are there they must agree."""
    if recorded is not None and given is not None and recorded != given:
        raise ValueError(
            f"{what} of SAE {name} must be {recorded}, as its file says, got {given}; leave the "
            "setting out"
        )
    return recorded or given


def _check_tokenizer(tokens: TokenStore, url: str, lm: "LanguageModel") -> None:
    """Refuses tokens of another tokenizer, whose ids mean something else to the model."""
    recorded = tokens.provenance.get("tokenizer")
    own = tokenizer_fingerprint(lm.tokenizer)
    if recorded is not None and recorded != own:
        raise ValueError(
            f"tokens {url} must be of the tokenizer of {lm.name} (fingerprint {own}), got "
            f"{recorded}; "
            "tokenize with this model"
        )
    for token in ("bos", "eos", "pad"):
        stored, known = getattr(tokens, token), getattr(lm.tokenizer, f"{token}_token_id")
        if stored is not None and stored != known:
            raise ValueError(
                f"{token} of tokens {url} must be {known}, as in the tokenizer of {lm.name}, got "
                f"{stored}; "
                "tokenize with this model"
            )
