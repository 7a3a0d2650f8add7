"""An evaluation's JSON as it is read again: its shape, checked before a page is made from it.

Owns what `report` relies on: types, bounds, and lengths that must agree. docs/evaluate.md says what
the numbers mean; `evaluate.run` writes them.
"""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from ...arguments import several
from ...foreign import Document, parse_json, short, validated
from ...store.place.files import check_is_replaced


def _rising(bounds: list[float]) -> list[float]:
    """Checks that an interval's lower bound comes first."""
    if bounds[0] > bounds[1]:
        raise ValueError("an interval must be [low, high]")
    return bounds


Count = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[float, Field(ge=0)]
Curve = list[float | None]
Bounds = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_rising)]
Quantiles = dict[str, float | None]


class _Model(Document):
    name: str
    fingerprint: str
    dtype: str


class _Tokens(Document):
    fingerprint: str
    split: str
    context: Annotated[int, Field(gt=0, lt=2**31)]
    n_sequences: Count
    n_sequences_asked: Count
    fewer_than_asked: bool


class _CleanByPosition(Document):
    n_predictions: list[Count]


class _Clean(Document):
    loss: float
    n_predictions: Count
    by_position: _CleanByPosition


class _Baseline(Document):
    mean_ablation_loss: float
    zero_ablation_loss: float


class _Firing(Document):
    n_tokens: Count
    log10_edges: list[float] = Field(min_length=2)
    histogram: list[Count]
    share_above_1_percent: Share | None = None
    share_above_10_percent: Share | None = None

    @model_validator(mode="after")
    def _bins_lie_between_edges(self) -> "_Firing":
        if len(self.log10_edges) != len(self.histogram) + 1:
            raise ValueError("log10_edges must be one more than the bins of histogram")
        if any(a >= b for a, b in zip(self.log10_edges, self.log10_edges[1:], strict=False)):
            raise ValueError("log10_edges must rise")
        return self


class _ByPosition(Document):
    error: Curve
    delta_loss: Curve
    kl: Curve | None = None
    error_stderr: Curve | None = None
    delta_loss_stderr: Curve | None = None

    def curves(self) -> list[Curve]:
        """The curves that the file has."""
        found = (self.error, self.delta_loss, self.kl, self.error_stderr, self.delta_loss_stderr)
        return [curve for curve in found if curve is not None]


class _ByDimension(Document):
    fvu: Curve
    quantiles: Quantiles


class _Weights(Document):
    theta: Quantiles
    W_enc_norm: Quantiles
    W_dec_norm: Quantiles
    b_dec_norm: float | None


class _Training(Document):
    settings: dict[str, Any]
    metrics: dict[str, list[float]]

    @model_validator(mode="after")
    def _curves_are_of_one_length(self) -> "_Training":
        if len({len(curve) for curve in self.metrics.values()}) > 1:
            raise ValueError("metrics must all be as long as step")
        if self.metrics and "step" not in self.metrics:
            raise ValueError("metrics must hold step")
        if any(step < 0 for step in self.metrics.get("step", ())):
            raise ValueError("metrics must hold no step below 0")
        return self


class _Snippet(Document):
    position: Count
    start: Count
    activation: float
    tokens: list[str]
    activations: list[float]

    @model_validator(mode="after")
    def _one_activation_a_token(self) -> "_Snippet":
        if len(self.tokens) != len(self.activations):
            raise ValueError("tokens and activations must be of one length")
        return self


class _Latent(Document):
    latent: Count
    frequency: Share
    snippets: list[_Snippet]


class _Importance(Document):
    n_tokens: Count
    r_l0: float | None
    effective_latents: float | None
    active_latents: float | None

    @model_validator(mode="after")
    def _tokens_give_figures(self) -> "_Importance":
        if self.n_tokens and None in (self.r_l0, self.effective_latents, self.active_latents):
            raise ValueError("figures must be there where n_tokens is above 0")
        return self


class _Config(Document):
    sparsity: float | None = None
    trained_rows: Count | None = None


class _Figures(Document):
    name: str
    l0: Annotated[float, Field(ge=0, le=2**31)]
    fvu: Size | None
    delta_loss: float
    delta_loss_stderr: Size | None
    recovered_share: float | None
    kl: float | None = None
    cosine: float | None = None
    intervals: dict[str, Bounds | None] = Field(default_factory=dict)
    """95% intervals over sequences, by the figure's name. Files of early versions have none."""


class _SAE(_Figures):
    site: str
    target_site: str
    d_sae: Annotated[int, Field(gt=0, lt=2**31)]
    config: _Config
    training: _Training | None
    dead_share: Share
    firing: _Firing
    by_position: _ByPosition
    by_dimension: _ByDimension | None = None
    weights: _Weights | None = None
    norm_ratio: Size | None = None
    warnings: list[str] = Field(default_factory=list)
    token_fvu: Size | None = None
    importance: _Importance | None = None
    top_activations: list[_Latent] | None = None


class _Subset(Document):
    n_sequences: Count
    clean_loss: float
    saes: list[_Figures]


class Evaluation(Document):
    """The part of an evaluation that a report needs."""

    settings: dict[str, Any]
    model: _Model
    tokens: _Tokens
    clean: _Clean
    baselines: dict[str, _Baseline]
    saes: list[_SAE] = Field(min_length=1)
    subsets: dict[str, _Subset] = Field(default_factory=dict)
    seconds: Size | None = None

    @model_validator(mode="after")
    def _curves_cover_the_context(self) -> "Evaluation":
        n = len(self.clean.by_position.n_predictions)
        for sae in self.saes:
            if {len(curve) for curve in sae.by_position.curves()} != {n}:
                raise ValueError(f"by_position of {sae.name} must be as long as that of clean")
        return self


def read_evaluation(path: Path) -> dict[str, Any]:
    """Reads what `evaluate` wrote.

    Raises:
        FileNotFoundError, ValueError: naming the file and what is wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"evaluation {path} does not exist; pass the --out file of scopeworks evaluate"
        )
    value = parse_json(path.read_bytes(), f"evaluation {path}")
    return checked(value, f"evaluation {path}")


def given_evaluations(given: Any) -> list[tuple[str, dict[str, Any]]]:
    """One or several evaluations, results or the files of them: (where it is, its content) of each.

    A result is called `evaluations[i]`.

    Raises:
        FileNotFoundError, ValueError: naming the evaluation and what is wrong with it.
    """
    found = []
    for i, one in enumerate(several(given)):
        if isinstance(one, str | os.PathLike):
            found.append((str(one), read_evaluation(Path(one))))
        elif isinstance(one, dict):
            place = f"evaluations[{i}]"
            found.append((place, checked(one, place)))
        else:
            raise ValueError(
                "evaluations must be results of evaluate or the JSON files that it wrote, got "
                f"{short(repr(one))}"
            )
    return found


def check_is_evaluation(out: Path) -> None:
    """Refuses to overwrite anything but an evaluation (of any version) or an empty file.

    Raises:
        ValueError: there is another file, such as the SAE's own.
    """
    check_is_replaced(out, "out", "an evaluation", _looks_like_one)


def _looks_like_one(data: bytes) -> bool:
    """Whether this has the tables that evaluations of every version have."""
    try:
        value = parse_json(data, "out")
    except ValueError:
        return False
    if not isinstance(value, dict) or not isinstance(value.get("saes"), list):
        return False
    tables = (value.get(name) for name in ("settings", "model", "tokens", "clean", "baselines"))
    return all(isinstance(table, dict) for table in (*tables, *value["saes"]))


def checked(value: Any, where: str) -> dict[str, Any]:
    """The same value, if a report can be made from it.

    Raises:
        ValueError: naming `where`, and the entries that are missing or wrong.
    """
    if not isinstance(value, dict) or "saes" not in value:
        raise ValueError(f"{where} must be a result of scopeworks evaluate, got other JSON")
    validated(Evaluation, value, where)
    return value
