"""The step evaluate: SAEs → one JSON of figures for each; a share is some of train's groups.

SAEs of a group share the clean pass. An SAE's JSON is the same whatever other SAEs were evaluated
with it, and holds no path and no time.
"""

from typing import Any

from ...console import NotReadyError
from ...evaluate.run import evaluation_of, write_evaluation
from ...evaluate.saved.evaluation_file import read_evaluation
from ...train.sae.config import public_name
from ...train.settings import FREE_ON_RESUME
from ...workers.share import TaskShare
from ..suite.members import SuiteMember
from ..suite.outputs import Outputs
from .step import State, Step
from .train import is_trained


def state(outputs: Outputs) -> State:
    """How many SAEs are evaluated."""
    files = [outputs.evaluation(one) for one in outputs.members]
    sizes = [file.stat().st_size for file in files if file.is_file()]
    return State(len(sizes), len(files), "evaluations", sum(sizes))


def execute(outputs: Outputs, share: TaskShare) -> None:
    """Evaluates a share of the groups."""
    for number, group in enumerate(outputs.groups):
        missing = [one for one in group if not outputs.evaluation(one).is_file()]
        if not missing or not share.has(number):
            continue
        untrained = [one.name for one in missing if not is_trained(outputs, one)]
        if untrained:
            raise NotReadyError(f"{untrained[0]} is not trained")
        result = evaluation_of(outputs.evaluate_settings(missing))
        for member, document in zip(missing, _single(outputs, missing, result), strict=True):
            write_evaluation(outputs.evaluation(member), document)


def documents(outputs: Outputs) -> list[dict[str, Any]]:
    """All SAEs' evaluations, in their order.

    Raises:
        NotReadyError: one is missing.
    """
    for member in outputs.members:
        if not outputs.evaluation(member).is_file():
            raise NotReadyError(f"{member.name} is not evaluated")
    return [read_evaluation(outputs.evaluation(member)) for member in outputs.members]


def pieces(outputs: Outputs) -> int:
    """Number of groups."""
    return len(outputs.groups)


def _single(
    outputs: Outputs, members: list[SuiteMember], result: dict[str, Any]
) -> list[dict[str, Any]]:
    """One document for each SAE, by its name in the suite, without what differs between runs."""
    shared = {name: value for name, value in result.items() if name != "saes"}
    shared["settings"] = {
        name: value
        for name, value in result["settings"].items()
        if name not in ("sae", "tokens", "out", "batch", "device", "model")
    }
    if (other := result["settings"].get("norms_of")) is not None:
        shared["settings"]["norms_of"] = public_name(other)
    shared["tokens"] = {name: v for name, v in result["tokens"].items() if name != "url"}
    shared["model"] = result["model"] | {"name": public_name(result["model"]["name"])}
    return [
        shared
        | {"saes": [_entry(member, entry)]}
        | {"baselines": _baselines(result, entry)}
        | {"subsets": _subsets(result, entry["name"], member.name)}
        for member, entry in zip(members, result["saes"], strict=True)
    ]


def _entry(member: SuiteMember, entry: dict[str, Any]) -> dict[str, Any]:
    """An SAE's entry, with only those training settings that its figures depend on."""
    training = entry["training"]
    if training is not None:
        settings = training["settings"].items()
        kept = {name: value for name, value in settings if name not in FREE_ON_RESUME}
        training = training | {"settings": kept}
    new = {"name": member.name, "path": None, "training": training}
    return entry | new


def _baselines(result: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The baselines of the site that the SAE replaces."""
    return {
        site: value for site, value in result["baselines"].items() if site == entry["target_site"]
    }


def _subsets(result: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The subsets' figures of one SAE."""
    return {
        subset: found
        | {"saes": [figures | {"name": new} for figures in found["saes"] if figures["name"] == old]}
        for subset, found in result["subsets"].items()
    }


STEP = Step("evaluate", ("tokenize", "train"), state, execute, pieces, on_gpu=True)
