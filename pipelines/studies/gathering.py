"""A study's evaluations: its variants run as far as something is missing, or given SAEs measured.

Owns where documents come from. Studies whose numbers are no evaluations of a suite's variants have
a row in `OWN`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...evaluate.settings import EvaluateSettings
from ...evaluate.study.study import Documents, Study
from ...settings import resolve
from ..run.runner import run
from ..steps.evaluate import documents
from ..suite.outputs import Outputs
from ..suite.settings import SuiteFile
from .conversations import with_rollouts
from .mixed_batches import with_mixing
from .storing_costs import storing_documents
from .subset_text import subset_documents
from .variants import derived, scene_of


@dataclass(frozen=True)
class Gathered:
    """A study's documents, and whether something had to be made for them."""

    documents: Documents
    made: bool


def _of_storing(file: SuiteFile, _full: bool) -> Gathered:
    """Sizes, hours and prices."""
    return Gathered(*storing_documents(file))


def _of_subsets(file: SuiteFile, _full: bool) -> Gathered | None:
    """The suite's SAEs by kind of text, where its own text has no subsets."""
    if "subset_field" in file.suite.text or file.text_table.store is not None:
        return None
    return Gathered({"subsets": subset_documents(file, "subsets")}, made=True)


OWN: dict[str, Callable[[SuiteFile, bool], Gathered | None]] = {
    "storing": _of_storing,
    "subsets": _of_subsets,
}
"""Study -> what gathers its documents, of (suite, full), where running variants does not; None: its
variants do, after all."""

BESIDE: dict[str, Callable[[Outputs, list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "mixing": with_mixing
}
"""Study -> what puts more beside the evaluations of a variant."""


def of_suite(study: Study, file: SuiteFile, full: bool) -> Gathered:
    """Runs what is missing of a study's variants.

    Raises:
        ValueError, OSError: a step failed; the text says how to try again.
    """
    if study.name in OWN and (own := OWN[study.name](file, full)) is not None:
        return own
    scene, made, found = scene_of(file, full), False, {}
    if study.conversations:
        scene, made = with_rollouts(study.name, scene, file)
    suites = {one.name: derived(file, one) for one in study.variants(scene)}
    outputs = {name: Outputs(suite) for name, suite in suites.items()}  # all are checked first
    for name, suite in suites.items():
        print(f"{study.name}, variant {name}: {len(outputs[name].members)} SAEs", flush=True)
        outcomes = run(suite, last="evaluate", study=study.name)
        made = made or any(outcome.done == "now" for outcome in outcomes)
        done = Outputs(suite)
        beside = BESIDE.get(study.name)
        found[name] = documents(done) if beside is None else beside(done, documents(done))
    return Gathered(found, made)


def of_saes(study: Study, saes: Sequence[str], full: bool, out: Path, **settings: Any) -> Gathered:
    """Measures SAEs that are there.

    Args:
        settings: of evaluate, without those that the study says.

    Raises:
        ValueError, OSError: the study trains SAEs of its own, or an input does not fit.
    """
    from ...evaluate.run import evaluation_of

    if study.for_saes is None:
        raise ValueError(
            f"study {study.name} must be given a suite, for it trains SAEs of its own, got a list "
            f"of SAEs; run it: scopeworks study {study.name} SUITE.toml"
        )
    shared = {"top_latents": 0, "out": out / "evaluation.json", "sae": tuple(saes)} | settings
    wanted = {
        name: resolve(EvaluateSettings, **(shared | own))
        for name, own in study.for_saes(full).items()
    }
    return Gathered({name: [evaluation_of(one)] for name, one in wanted.items()}, made=True)
