"""A study: one question about SAEs, the variants of a suite that it needs, and how it is answered.

Owns what defines a study. Its points, reading and plots are pure functions of the evaluations'
documents. `pipelines.studies` runs the variants.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Table = dict[str, Any]
Documents = Mapping[str, Sequence[dict[str, Any]]]
"""Variant's name -> evaluations, as `evaluate` writes them, each of one SAE or of several."""

Verdict = Literal["holds", "does not hold", "cannot be told"]
Value = str | float | int | None


@dataclass(frozen=True)
class Scene:
    """The parts of a suite that studies need.

    Attributes:
        sites: that the suite's SAEs read, in the order of the forward pass.
        n_layers: of the language model.
        widths: of the suite's SAEs, narrowest first.
        prices: grid keys of a `[[sae]]` table with the suite's prices of L0: lists of `sparsity`
            and `target_l0`.
        sparsities: the suite's λs, smallest first; λs of the report's size if it has none.
        settings: training settings that all SAEs share (steps, batch, lr, …), without width, price
            and seed.
        seed: of the suite.
        n_sequences: sequences that are evaluated.
        context: tokens of a sequence; None if the suite does not say.
        full: whether the report's sizes are asked for.
        model: the language model.
        twin: its instruction-tuned twin; None if not known.
        d_in: values in a row of `site`.
        rollouts: URL of the token store of the twin's conversations, for a study that needs it.
    """

    sites: tuple[str, ...]
    n_layers: int
    widths: tuple[int, ...]
    prices: Table
    sparsities: tuple[float, ...]
    settings: Table
    seed: int
    n_sequences: int
    context: int | None
    full: bool = False
    model: str = ""
    twin: str | None = None
    d_in: int = 0
    rollouts: str = ""

    @property
    def site(self) -> str:
        """The site for a study of one site: the first of the residual stream, if there is one."""
        residual = [site for site in self.sites if site.startswith("resid_post.")]
        return (residual or list(self.sites))[0]

    @property
    def layer(self) -> int:
        """The layer of `site`."""
        return int(self.site.rpartition(".")[2])

    @property
    def width(self) -> int:
        """The width for a study of one width: the suite's narrowest."""
        return self.widths[0]

    @property
    def sparsity(self) -> float:
        """The λ for a study of one λ: the suite's middle one (the larger, if there are two)."""
        return self.sparsities[len(self.sparsities) // 2]

    @property
    def n_conversations(self) -> int:
        """Number of conversations with the twin.

        Two for each evaluated sequence, at most the report's 1,024; with `full` always 1,024.
        """
        return 1024 if self.full else min(1024, 2 * self.n_sequences)

    def at_layer(self, kinds: Sequence[str] = ("attn_out", "mlp_out", "resid_post")) -> list[str]:
        """The sites of these kinds at the layer of `site`."""
        return [f"{kind}.{self.layer}" for kind in kinds]


@dataclass(frozen=True)
class Variant:
    """A suite that differs from the user's. It runs in the same folder and shares its outputs.

    Attributes:
        name: unique in the study.
        sae: `[[sae]]` tables in place of the suite's. If empty: the suite's own SAEs, or those
            given by `--sae`.
        text, harvest, train, evaluate: settings merged over the suite's; `harvest` over each of its
            tables.
        model: another language model; None for the suite's.
    """

    name: str
    sae: Sequence[Table] = ()
    text: Table = field(default_factory=dict)
    harvest: Table = field(default_factory=dict)
    train: Table = field(default_factory=dict)
    evaluate: Table = field(default_factory=dict)
    model: str | None = None


@dataclass(frozen=True)
class Point:
    """One measured value.

    Attributes:
        where: the study's own columns, such as site, width and L0, the same for all its points.
        value: None if it is not defined.
        low, high: the 95% interval; None if it is not known.
        n: number of draws behind the value: sequences, tokens, latents or seeds, as the study says.
    """

    where: Mapping[str, Value]
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    def __getitem__(self, column: str) -> Any:
        return self.where[column]


@dataclass(frozen=True)
class Reading:
    """What the points say about the claim.

    Attributes:
        sentence: the answer with its figures, for a reader who sees nothing else.
        test: how the verdict was decided.
        numbers: JSON values behind the sentence.
    """

    verdict: Verdict
    sentence: str
    test: str
    numbers: Table = field(default_factory=dict)


@dataclass(frozen=True)
class Plot:
    """One figure; `draw` draws it on a pair of axes."""

    name: str
    caption: str
    draw: Callable[["Axes"], None]


@dataclass(frozen=True)
class Needs:
    """What a study needs among SAEs that already exist (`--sae`).

    Attributes:
        words: the SAEs it must find, for errors.
        alike: whether they must be of one site and width.
    """

    words: str
    alike: bool


@dataclass(frozen=True)
class Study:
    """One row of the table of studies.

    Attributes:
        name: as the command takes it.
        figures: the report's figures or sections that it answers.
        title: its question, in a line.
        claim: what the report says or shows.
        minutes: an estimate for the demo on two cores.
        variants: the variants of a suite that it needs.
        points: from the variants' documents. Raises LackError if SAEs are missing.
        read: what the points say about the claim.
        plots: figures of the points.
        for_saes: for `--sae`: from `full` to the variants' settings of evaluate. None if the study
            can only train SAEs of its own.
        conversations: whether it needs rollouts of the model's instruction-tuned twin.
        needs: what `--sae` must have, checked before anything runs; None for no condition.
    """

    name: str
    figures: tuple[str, ...]
    title: str
    claim: str
    minutes: float
    variants: Callable[[Scene], list[Variant]]
    points: Callable[[Documents], list[Point]]
    read: Callable[[list[Point]], Reading]
    plots: Callable[[list[Point]], list[Plot]]
    for_saes: Callable[[bool], Mapping[str, Table]] | None = None
    conversations: bool = False
    needs: Needs | None = None


class LackError(ValueError):
    """SAEs that a study needs are missing; the text names the command that makes them."""


class AbsentError(LackError):
    """A study needs more answers from people than there are."""
