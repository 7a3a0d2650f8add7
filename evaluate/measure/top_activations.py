"""Top activations: the snippets in which a latent fires most, for people to read.

Owns the choice of latents, the search for their strongest activations, and the tokens' texts.
Shading is in `page.markup`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...train.sae.sae import SAE
from ..settings import EvaluateSettings
from .inputs import PlacedSAE
from .metrics import MAX_FEATURE_VALUES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BEFORE, AFTER = 24, 8
"""Tokens shown before and after the strongest activation; a latent reacts mostly to what comes
before."""
_BROKEN = "\ufffd"


def choose_latents(fired: Int[Tensor, " d_sae"], n: int, seed: int) -> list[int]:
    """`n` latents spread evenly over the ranks of firing frequency, most frequent first.

    Alive latents are sorted by count and cut into `n` equal groups; one is drawn from each. So the
    choice favours neither the best nor the worst. The same counts and seed give the same latents.
    """
    counts = fired.cpu().numpy()
    alive = np.flatnonzero(counts)
    order = alive[np.lexsort((alive, -counts[alive]))]
    rng = np.random.default_rng(seed)
    groups = np.array_split(order, min(n, len(order))) if len(order) else []
    return [int(rng.choice(group)) for group in groups]


class _Peak(NamedTuple):
    """A latent's strongest activation in a sequence, with ids and activations of its `_window`.

    Python's numbers, not arrays: small arrays that live between a pass's large ones would keep
    freed memory from being used again.
    """

    value: float
    sequence: int
    position: int
    ids: tuple[int, ...]
    f: tuple[float, ...]


class LatentSearch:
    """Looks for the sequences in which some latents of one SAE are most active.

    Attributes:
        site: where the SAE reads.
        latents: the chosen latents, most frequent first.
    """

    def __init__(
        self,
        candidate: PlacedSAE,
        fired: Int[Tensor, " d_sae"],
        n_firing_tokens: int,
        settings: EvaluateSettings,
    ):
        """Chooses the latents by their firing counts over `n_firing_tokens` tokens."""
        self.site = candidate.site
        self.latents = choose_latents(fired, settings.top_latents, settings.seed)
        self._frequencies = (fired[self.latents].double() / n_firing_tokens).tolist()
        self._encode = narrowed(candidate.sae, self.latents)
        self._k = settings.top_snippets
        self._found: list[list[_Peak]] = [[] for _ in self.latents]
        self._n_sequences = 0

    def add(
        self,
        ids: Int[Tensor, "batch seq"],
        x: Float[Tensor, "batch seq d_in"],
        keep: Bool[Tensor, "batch seq"],
    ) -> None:
        """Adds the next sequences with the site's activations and the positions that count."""
        f = torch.where(keep[..., None], self._encode(x), 0).float()
        strongest, positions = f.max(dim=1)
        batch_ids, batch_f = ids.cpu().numpy(), f.cpu().numpy()
        for row, latent in torch.nonzero(strongest > 0).tolist():
            position = int(positions[row, latent])
            around = _window(position)
            peak = _Peak(
                float(strongest[row, latent]),
                self._n_sequences + row,
                position,
                tuple(batch_ids[row, around].tolist()),
                tuple(batch_f[row, around, latent].tolist()),
            )
            self._found[latent].append(peak)
        self._n_sequences += len(ids)
        self._forget()

    def result(self, tokenizer: "PreTrainedTokenizerBase") -> list[dict[str, Any]]:
        """One entry per latent with its snippets, the strongest first, as JSON values."""
        return [
            {
                "latent": latent,
                "frequency": self._frequencies[i],
                "snippets": [_snippet(peak, tokenizer) for peak in self._found[i]],
            }
            for i, latent in enumerate(self.latents)
        ]

    def _forget(self) -> None:
        """Keeps the k strongest peaks of each latent that show different tokens.

        Of equal peaks the earlier sequence is kept. Text often repeats a passage.
        """
        for found in self._found:
            found.sort(key=lambda peak: (-peak.value, peak.sequence))
            shown = {peak.ids: peak for peak in reversed(found)}
            found[:] = sorted(shown.values(), key=lambda peak: (-peak.value, peak.sequence))[
                : self._k
            ]


def _snippet(peak: _Peak, tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """Tokens and activations around a peak, as JSON values."""
    return {
        "sequence": peak.sequence,
        "position": peak.position,
        "start": _window(peak.position).start,
        "activation": peak.value,
        "tokens": token_texts(tokenizer, list(peak.ids)),
        "activations": [float(f"{value:.5g}") for value in peak.f],
    }


def _window(position: int) -> slice:
    """The part of a sequence that is shown around a peak."""
    return slice(max(0, position - BEFORE), position + AFTER + 1)


def narrowed(sae: SAE, latents: list[int]) -> Callable[[Tensor], Tensor]:
    """`sae.encode` of these latents alone: x [..., d_in] to f [..., len(latents)].

    A dozen latents cost a dozen columns, not d_sae. A top-k SAE needs all its latents to choose k
    of them, so it encodes all, in parts of the rows.
    """
    if sae.config.k is not None:
        size = max(1, MAX_FEATURE_VALUES // sae.config.d_sae)

        def chosen(x: Tensor) -> Tensor:
            parts = [sae.encode(part)[:, latents] for part in x.flatten(0, -2).split(size)]
            return torch.cat(parts).unflatten(0, x.shape[:-1])

        return chosen
    config = sae.config.model_copy(update={"d_sae": len(latents)})
    return SAE(
        config,
        W_enc=sae.W_enc[:, latents],
        b_enc=sae.b_enc[latents],
        W_dec=sae.W_dec[latents],
        b_dec=sae.b_dec,
        theta=sae.theta[latents],
        W_skip=sae.W_skip,
    ).encode


def token_texts(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> list[str]:
    """Each token's text.

    Some characters are several byte tokens, none of which decodes by itself. If such tokens decode
    together, the first gets the whole text and the others are empty.
    """
    texts = [_decode(tokenizer, [i]) for i in ids]
    start = 0
    while start < len(texts):
        stop = start
        while stop < len(texts) and _BROKEN in texts[stop]:
            stop += 1
        if stop > start + 1 and _BROKEN not in (whole := _decode(tokenizer, ids[start:stop])):
            texts[start:stop] = [whole] + [""] * (stop - start - 1)
        start = max(stop, start + 1)
    return texts


def _decode(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    """Text as it is, spaces included."""
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text if isinstance(text, str) else "".join(text)
