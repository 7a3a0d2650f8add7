"""Gathers a study's evaluations: runs its variants as far as needed, or measures given SAEs.

Owns the sources of a study's documents. Studies that do not use evaluations of variants have a row
in `OWN`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...evaluate.settings import EvaluateSettings
from ...evaluate.study.study import AbsentError, Documents, Study, Variant
from ...settings import resolve
from ..run.runner import run_suite
from ..steps.evaluate import documents
from ..suite.members import SuiteMember
from ..suite.outputs import Outputs
from ..suite.settings import SuiteFile
from .inputs.conversations import with_rollouts
from .inputs.mixed_batches import with_mixing
from .inputs.simulated import with_simulation
from .inputs.storing_costs import storing_documents
from .inputs.subset_text import subset_tokens
from .variants import check_enough, derived, scene_of


@dataclass(frozen=True)
class GatheredStudy:
    """A study's documents, and whether an output had to be made for them."""

    documents: Documents
    made: bool


def _of_storing(file: SuiteFile, _ratings: Path | None) -> GatheredStudy:
    """Sizes, hours and prices."""
    return GatheredStudy(*storing_documents(file))


def _of_subsets(file: SuiteFile, _ratings: Path | None) -> GatheredStudy | None:
    """Evaluations of the suite's SAEs by kind of text; None if the suite's own text has subsets."""
    if "subset_field" in file.suite.text or file.text_table.store is not None:
        return None
    tokens, cut = subset_tokens(file, "subsets")
    variant = Variant("subsets", evaluate={"tokens": tokens, "subsets": True})
    found, ran = _evaluated("subsets", variant.name, derived(file, variant))
    return GatheredStudy({variant.name: found}, made=cut or ran)


def _of_ratings(file: SuiteFile, ratings: Path | None) -> GatheredStudy:
    """Ratings of latents by people."""
    folder = file.suite.out.expanduser().absolute() / RATINGS
    if ratings is None and not folder.is_dir():
        raise AbsentError(
            f"study ratings must have ratings by people, got none in {folder}; rate latents: "
            f"scopeworks latents rate INDEX_DIR INDEX_DIR --rater NAME --out {folder}"
        )
    return of_ratings(ratings or folder)


def of_ratings(folder: Path) -> GatheredStudy:
    """Ratings as the one document of their study.

    Raises:
        FileNotFoundError: there are none.
        ValueError: a file is damaged.
    """
    from ...evaluate.latents.rate.ratings import document, read_ratings

    return GatheredStudy({RATINGS: [document(read_ratings(folder))]}, made=False)


def of_indexes(folders: Sequence[Path]) -> GatheredStudy:
    """Scores that `latents score` has written, for the study of simulation.

    Raises:
        OSError: an index is unfinished or not scored.
        ValueError: an index is damaged, or they were not scored alike.
    """
    from ...evaluate.latents.score.document import documents as documents_of

    return GatheredStudy({"scored": documents_of(folders)}, made=False)


RATINGS = "ratings"
"""Name of the study of ratings, and of its default folder in a suite's folder."""

OWN: dict[str, Callable[[SuiteFile, Path | None], GatheredStudy | None]] = {
    "storing": _of_storing,
    "subsets": _of_subsets,
    RATINGS: _of_ratings,
}
"""Study -> function of (suite, folder of ratings) that gathers its documents. If it returns None,
the study's variants are run instead."""

BESIDE: dict[str, Callable[[Outputs, list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "mixing": with_mixing,
    "simulation": with_simulation,
}
"""Study -> function that adds more figures to the evaluations of a variant."""


def of_suite(
    study: Study, file: SuiteFile, full: bool, ratings: Path | None = None
) -> GatheredStudy:
    """Runs a study's variants as far as outputs are missing, and returns its documents.

    Args:
        study: the study.
        file: the suite.
        full: use the report's sizes.
        ratings: folder of ratings; by default `ratings` in the suite's folder.

    Raises:
        AbsentError: nobody has rated latents.
        LackError: the suite has too few SAEs for the question; nothing has been run.
        ValueError, OSError: a step failed; the error names the command to try again.
    """
    if study.name in OWN and (own := OWN[study.name](file, ratings)) is not None:
        return own
    scene, made, found = scene_of(file, full), False, {}
    if study.conversations:
        scene, made = with_rollouts(study.name, scene, file)
    suites = {one.name: derived(file, one) for one in study.variants(scene)}
    outputs = [Outputs(suite) for suite in suites.values()]  # all are checked first
    if study.needs is not None:
        _check_suite(study, file, [member for one in outputs for member in one.members])
    for name, suite in suites.items():
        found[name], ran = _evaluated(study.name, name, suite)
        made = made or ran
    if study.conversations:
        found = {name: list(map(_of_conversations, many)) for name, many in found.items()}
    return GatheredStudy(found, made)


def _evaluated(study: str, variant: str, suite: SuiteFile) -> tuple[list[dict[str, Any]], bool]:
    """The evaluations of a variant's SAEs, and whether an output had to be made for them."""
    print(f"{study}, variant {variant}: {len(Outputs(suite).members)} SAEs", flush=True)
    outcomes = run_suite(suite, last="evaluate", study=study)
    done, beside = Outputs(suite), BESIDE.get(study)
    found = documents(done) if beside is None else beside(done, documents(done))
    return found, any(outcome.done == "now" for outcome in outcomes)


def _check_suite(study: Study, file: SuiteFile, members: Sequence[SuiteMember]) -> None:
    """Checks, before any SAE is trained, that the study can compare a suite's SAEs.

    Raises:
        LackError: it cannot.
    """
    saes = [("→".join(map(str, one.sites)), one.values["width"], one.name) for one in members]
    steered = all("target_l0" in one.values for one in members)
    name, values = ("target_l0", "[10.0,25.0,60.0]") if steered else ("sparsity", "[3e-4,6e-4]")
    remedy = (
        f"give [[sae]] of suite {file.given} more values of {name}: --set 'sae.{name}={values}'"
    )
    check_enough(study, saes, remedy)


def _of_conversations(document: dict[str, Any]) -> dict[str, Any]:
    """An evaluation with a description of its text: sampled conversations."""
    tokens = document["tokens"]
    n, context = f"{tokens['n_sequences']:,}", f"{tokens['context']:,}"
    return document | {"text": f"{n} conversations of at most {context} tokens, sampled"}


def of_saes(
    study: Study, saes: Sequence[str], full: bool, out: Path, **given: Any
) -> GatheredStudy:
    """Measures existing SAEs for a study.

    Args:
        study: the study.
        saes: paths or URLs of the SAEs.
        full: use the report's sizes.
        out: folder of the evaluation.
        given: settings of evaluate, which win over those of the study.

    Raises:
        LackError: there are too few SAEs for the question; none has been measured.
        ValueError, OSError: the study needs a suite, `full` changes nothing, or an input does not
            fit.
    """
    from ...evaluate.run import evaluation_of

    if study.for_saes is None:
        raise ValueError(
            f"study {study.name} must be given a suite, for SAEs that are there are not all that "
            f"it needs, got a list of SAEs; run it: scopeworks study {study.name} SUITE.toml"
        )
    places = {"out": out / "evaluation.json", "sae": tuple(saes)}
    tables, smaller = (
        {name: {"top_latents": 0} | own | given for name, own in study.for_saes(size).items()}
        for size in (full, False)
    )
    if full and tables == smaller:
        raise ValueError(f"--full has no effect on study {study.name} of these SAEs; leave it out")
    wanted = {name: resolve(EvaluateSettings, **table, **places) for name, table in tables.items()}
    if study.needs is not None:
        _check_saes(study, next(iter(wanted.values())))
    return GatheredStudy({name: [evaluation_of(one)] for name, one in wanted.items()}, made=True)


def _check_saes(study: Study, settings: EvaluateSettings) -> None:
    """Checks, before any SAE is measured, that the study can compare the given SAEs.

    Raises:
        LackError: it cannot.
    """
    from ...evaluate.run.saes import SAEs

    known = SAEs(settings)
    known.look_through(most_bytes=0)
    site = settings.site or known.configs[0].site or "SITE"
    saes = [(one.site or site, one.d_sae, number) for number, one in enumerate(known.configs)]
    remedy = (
        f"make them: scopeworks sweep --store STORE --site {site} --width {saes[0][1]} "
        "--sparsity 3e-4 --sparsity 6e-4 --sparsity 1.2e-3 --out DIR"
    )
    check_enough(study, saes, remedy)
