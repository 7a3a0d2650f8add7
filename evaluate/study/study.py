"""A study: one question about SAEs, the variants of a suite that it needs, and how it is answered.

Owns what a study must say. What it says after the runs (points, reading, plots) are pure functions
of the evaluations' documents; running the variants is the caller's.
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
    """A suite as far as studies need it.

    Attributes:
        sites: that the suite's SAEs read, in the order of the forward pass.
        n_layers: of the language model.
        widths: of the suite's SAEs, narrowest first.
        prices: grid keys of a `[[sae]]` table with the suite's prices of L0: lists of `sparsity`
            and `target_l0`.
        sparsities: the suite's λs, smallest first; the report's order of size where it has none.
        settings: of train that all SAEs share (steps, batch, lr, …), without width, price and seed.
        seed: of the suite.
        n_sequences: that are evaluated.
        context: tokens of a sequence, where the suite says it.
        full: whether the report's sizes are asked for.
        model: the language model.
        twin: its instruction-tuned twin, where one is known.
        d_in: values of a row of `site`.
        rollouts: token store of the twin's conversations, for a study that asks for them.
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
        """The site that a study of one site takes: the residual stream's, if there is one."""
        residual = [site for site in self.sites if site.startswith("resid_post.")]
        return (residual or list(self.sites))[0]

    @property
    def layer(self) -> int:
        """The layer of `site`."""
        return int(self.site.rpartition(".")[2])

    @property
    def width(self) -> int:
        """The width that a study of one width takes: the suite's narrowest."""
        return self.widths[0]

    @property
    def sparsity(self) -> float:
        """The λ that a study of one λ takes: the suite's middle one, the larger of two."""
        return self.sparsities[len(self.sparsities) // 2]

    @property
    def n_conversations(self) -> int:
        """Rollouts of the twin: two for every sequence that is evaluated, at most the report's
        1,024, which `full` takes."""
        return 1024 if self.full else min(1024, 2 * self.n_sequences)

    def at_layer(self, kinds: Sequence[str] = ("attn_out", "mlp_out", "resid_post")) -> list[str]:
        """The sites of one layer, which is that of `site`."""
        return [f"{kind}.{self.layer}" for kind in kinds]


@dataclass(frozen=True)
class Variant:
    """A suite that differs from the user's, run in the same folder: what exists is shared.

    Attributes:
        name: unique in the study.
        sae: `[[sae]]` tables in place of the suite's; none: the suite's own SAEs, or those that
            were given as a list.
        text, harvest, train, evaluate: settings merged over the suite's; of harvest over every one
            of its tables.
        model: another language model.
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
        value: None where it is not defined.
        low, high: of the 95% interval; None where it cannot be known.
        n: what the value is a mean of: sequences, tokens, latents or seeds, as the study says.
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
        sentence: with its figures, for a reader who sees nothing else.
        test: how it was decided.
        numbers: JSON values behind the sentence.
    """

    verdict: Verdict
    sentence: str
    test: str
    numbers: Table = field(default_factory=dict)


@dataclass(frozen=True)
class Plot:
    """One figure: `draw` is given a pair of axes."""

    name: str
    caption: str
    draw: Callable[["Axes"], None]


@dataclass(frozen=True)
class Needs:
    """What a study must find among SAEs that it takes as they are given.

    Attributes:
        words: what two of them or more must be, for errors.
        alike: whether those must be of one site and width.
    """

    words: str
    alike: bool


@dataclass(frozen=True)
class Study:
    """One row of the table of studies.

    Attributes:
        name: as the command takes it.
        figures: numbers of the report's figures that it answers to.
        title: what it asks, in a line.
        claim: what the report says or shows.
        minutes: that it takes for the demo on two cores, alone; an estimate.
        variants: the suites it needs.
        points: from the variants' documents. Raises LackError where SAEs are missing.
        read: what the points say about the claim.
        plots: figures of the points.
        for_saes: variant -> settings of evaluate, by which SAEs that are there are studied instead
            of a suite's, at the report's sizes or at smaller ones; None: it trains SAEs of its own.
        conversations: whether it needs rollouts of the model's instruction-tuned twin.
        needs: of SAEs that are there, checked before anything is run; None: nothing.
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
    """What a study needs is not among the SAEs; the text names the command that makes it."""


class AbsentError(LackError):
    """What a study needs can only be made by people, and they have not made enough of it."""
