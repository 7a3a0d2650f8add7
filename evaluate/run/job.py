"""The job: model, text and SAEs of one evaluation, loaded once for all its groups.

Owns what both the command and a Dask worker load, and what an evaluation records of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...console import Progress
from ...harvest.model.loading import LanguageModel, load_model
from ...harvest.tokens.splits import HELD_OUT
from ...machine import keep_freed_memory
from ...store import TokenStore
from ..measure.declared.causes import add_warnings
from ..measure.inputs import HeldOut, open_held_out, subsets_of
from ..measure.rescaling import rescaled
from ..settings import EvaluateSettings
from .measuring import evaluate_many, evaluate_subsets
from .saes import SAEs

if TYPE_CHECKING:
    from .groups import GroupedSAE


@dataclass(frozen=True)
class EvaluationJob:
    """Model, text and SAEs that are loaded; `batch` and `attention` of `settings` are resolved."""

    settings: EvaluateSettings
    lm: LanguageModel
    tokens: TokenStore
    held_out: HeldOut
    subsets: dict[str, HeldOut]
    saes: SAEs

    @classmethod
    def load(
        cls, settings: EvaluateSettings, saes: SAEs, lm: LanguageModel | None = None
    ) -> "EvaluationJob":
        """Loads the model, unless it is loaded, and the text.

        Raises:
            ValueError, OSError: an input is missing or does not fit the others.
        """
        asked = settings.model, settings.dtype, settings.device, settings.attention
        lm = load_model(*asked) if lm is None else lm
        if lm.device.type == "cpu":
            keep_freed_memory()
        place, n = settings.place(settings.tokens), settings.n_sequences
        tokens, held_out = open_held_out(place, lm, n, settings.positions)
        subsets = subsets_of(tokens, n, lm) if settings.subsets else {}
        batch = settings.batch_for(tokens.context, lm.device)
        chosen = {"batch": batch, "attention": lm.attention}
        settings = settings.model_copy(update=chosen)
        return cls(settings, lm, tokens, held_out, subsets, saes)

    def items(self) -> "list[GroupedSAE]":
        """The SAEs, each checked against the model."""
        return self.saes.items(self.lm)

    def measured(self, numbers: Sequence[int], bar: Progress | None = None) -> dict[str, Any]:
        """The figures of some SAEs: `clean`, `baselines`, `saes` and `subsets` of the JSON."""
        candidates = self.saes.candidates(numbers, self.lm)
        if self.settings.norms_of is not None:
            candidates = rescaled(candidates, self.held_out, self.lm, self.settings)
        measured = evaluate_many(self.lm, candidates, self.held_out, self.settings, bar)
        tokens = self.tokens.fingerprint
        add_warnings(measured["saes"], self.lm, candidates, self.held_out, tokens)
        return {
            **measured,
            "subsets": evaluate_subsets(self.lm, candidates, self.subsets, self.settings, bar),
        }

    def facts(self) -> dict[str, Any]:
        """What an evaluation records of model and text: enough to compare two evaluations."""
        lm, n, asked = self.lm, self.held_out.n, self.settings.n_sequences
        return {
            "model": {"name": lm.name, "fingerprint": lm.fingerprint, "dtype": lm.dtype},
            "tokens": {
                "url": self.tokens.url,
                "fingerprint": self.tokens.fingerprint,
                "split": HELD_OUT,
                "context": self.tokens.context,
                "n_sequences": n,
                "n_sequences_asked": asked,
                "fewer_than_asked": n < asked,
            },
        }
