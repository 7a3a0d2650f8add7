"""The playground of one index: text requests, and the answers that its page draws.

Owns the fields and bounds of requests and answers, and the check that model, SAE and index belong
together. `steering` owns the computation.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field

from ....foreign import Document
from ....harvest.model.loading import LanguageModel, load_model
from ....harvest.tokens.encoding import token_ids
from ....train.sae.hub import is_remote
from ....train.sae.sae import SAE
from ...measure.inputs import sites_of
from ...measure.top_activations import token_texts
from ..files.manifest import read_places
from ..weights.identity import sae_fingerprint
from .folders import Served
from .steering import LatentChange, SteeredModel

if TYPE_CHECKING:
    from .settings import ServeSettings

MOST_CHARACTERS, MOST_TOKENS, MOST_NEW, MOST_CHANGES = 4000, 512, 100, 32
_TOP = 10

Latent = Annotated[int, Field(ge=0, lt=2**31)]
Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
Value = Annotated[float, Field(ge=-1e6, le=1e6)]


class AskedTokens(Document):
    """Request: which latents fire in a text?"""

    text: Text
    latent: Latent | None = None
    """The answer also gives this latent's activation at every token."""


class AskedChange(Document):
    """How a latent is changed; see `steering.LatentChange`."""

    latent: Latent
    kind: Literal["off", "add", "set"]
    value: Value = 0.0
    start: int = Field(default=0, ge=0, lt=2**31)


class AskedText(Document):
    """Request: what does the model write, with and without changes?"""

    text: Text
    edits: list[AskedChange] = Field(default=[], max_length=MOST_CHANGES)
    n_tokens: int = Field(default=20, ge=1, le=MOST_NEW)
    temperature: float = Field(default=0.0, ge=0, le=5)
    seed: int = Field(default=0, ge=0, lt=2**32)


class Playground:
    """Answers requests with a model and an SAE. Not safe for several threads at once."""

    def __init__(self, lm: LanguageModel, steering: SteeredModel):
        self._lm, self._steering = lm, steering
        self._special = frozenset(lm.tokenizer.all_special_ids)
        ends = lm.config.eos_token_id
        self._ends = frozenset(ends if isinstance(ends, list) else [ends])

    def tokens(self, asked: AskedTokens) -> dict[str, Any]:
        """A text's tokens, and for each token the strongest latents and how many latents fire.

        If a latent was asked for, also its activation at every token.

        Raises:
            ValueError: the text has no tokens or too many, or there is no such latent.
        """
        ids = self._ids(asked.text, 0)
        f = self._steering.features(torch.tensor([ids], device=self._lm.device))
        if asked.latent is not None:
            self._check_latent(asked.latent)
        value, latent = f.topk(min(_TOP, f.shape[1]), dim=-1)
        pairs = zip(latent.tolist(), value.tolist(), strict=True)
        return {
            "tokens": token_texts(self._lm.tokenizer, ids),
            "special": [i in self._special for i in ids],
            "top": [[[i, _short(v)] for i, v in zip(*row, strict=True) if v > 0] for row in pairs],
            "active": (f > 0).sum(-1).tolist(),
            "values": None
            if asked.latent is None
            else [_short(v) for v in f[:, asked.latent].tolist()],
        }

    def text(self, asked: AskedText) -> dict[str, Any]:
        """What the model writes without and with the changes, by the same random numbers.

        Also the most probable next tokens of both, with their two probabilities.

        Raises:
            ValueError: the text has no tokens or too many, there is no such latent, a latent is
                changed twice, or the changes make the model's logits infinite or NaN.
        """
        latents = [edit.latent for edit in asked.edits]
        for latent in latents:
            self._check_latent(latent)
            if latents.count(latent) > 1:
                raise ValueError(f"latent must be changed once, got {latent} twice")
        changes = [LatentChange(**dict(edit)) for edit in asked.edits]
        ids = self._ids(asked.text, asked.n_tokens)
        tensor = torch.tensor([ids], device=self._lm.device)
        how = (asked.n_tokens, asked.temperature, asked.seed, self._ends)
        before, p = self._steering.continued(tensor, [], *how)
        after, q = self._steering.continued(tensor, changes, *how)
        n = min(_TOP, len(p))
        best = sorted({*p.topk(n).indices.tolist(), *q.topk(n).indices.tolist()})
        best = sorted(best, key=lambda i: -max(float(p[i]), float(q[i])))
        texts = [token_texts(self._lm.tokenizer, [i])[0] for i in best]
        rows = zip(texts, best, p[best].tolist(), q[best].tolist(), strict=True)
        return {
            "before": token_texts(self._lm.tokenizer, before),
            "after": token_texts(self._lm.tokenizer, after),
            "next": [
                {"text": text, "id": i, "before": _short(a), "after": _short(b)}
                for text, i, a, b in rows
            ],
        }

    def _ids(self, text: str, more: int) -> list[int]:
        """BOS, as at the start of harvested sequences, then the text's tokens."""
        bos: Any = self._lm.tokenizer.bos_token_id
        ids: list[int] = [] if bos is None else [bos]
        ids += token_ids(self._lm.tokenizer, [text])[0].tolist()
        longest = min(MOST_TOKENS, self._lm.config.max_position_embeddings - more)
        if not 1 <= len(ids) <= longest:
            raise ValueError(f"text must have 1 to {longest} tokens, got {len(ids):,}")
        return ids

    def _check_latent(self, latent: int) -> None:
        d_sae = self._steering.sae.config.d_sae
        if latent >= d_sae:
            raise ValueError(f"latent must be 0 to {d_sae - 1}, got {latent}")


def open_playgrounds(settings: "ServeSettings", served: Sequence[Served]) -> list[Playground]:
    """Reads the SAEs and the model, and checks that they and the indexes belong together.

    Raises:
        OSError: a model or SAE is missing.
        ValueError: they do not belong together; the text says which do not, and why.
    """
    assert settings.model is not None
    saes = [_read_sae(one, settings.sae[i : i + 1]) for i, one in enumerate(served)]
    lm = load_model(settings.model, settings.dtype, settings.device)
    found = []
    for one, sae in zip(served, saes, strict=True):
        facts = one.index.manifest
        if facts.model_fingerprint not in (None, lm.fingerprint):
            raise ValueError(
                f"model must be {facts.model} ({facts.model_fingerprint}), of which the index "
                f"{one.folder} is, got {lm.name} ({lm.fingerprint})"
            )
        reads, writes = sites_of(
            facts.sae.name,
            sae.config,
            lm,
            sae.config.site or facts.sae.site,
            sae.config.target_site or facts.sae.target_site,
        )
        there = sae.to(lm.device, torch.float32, copy=False)
        found.append(Playground(lm, SteeredModel(lm.model, there, reads, writes)))
    return found


def _read_sae(one: Served, given: Sequence[str]) -> SAE:
    """The SAE of an index: the one that is given, or the one that the index names."""
    facts = one.index.manifest.sae
    places = read_places(one.folder)
    source = given[0] if given else facts.source if places is None else places.sae
    if source is None:
        raise ValueError(f"sae must be given, for the index {one.folder} does not say where it is")
    try:
        sae = SAE.from_pretrained(source) if is_remote(source) else SAE.load(source)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; pass the SAE of {one.folder} as --sae") from error
    if (got := sae_fingerprint(sae)) != facts.fingerprint:
        raise ValueError(
            f"sae {source} must be that of the index {one.folder}, {facts.name} "
            f"({facts.fingerprint}), got other weights ({got}); make the index of this SAE"
        )
    return sae


def _short(value: float) -> float:
    return float(f"{value:.6g}")
