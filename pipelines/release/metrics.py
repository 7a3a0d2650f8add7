"""metrics.json of a release: all figures of each SAE, without paths, hosts and times.

Owns the list of names that go in. Names that are not listed here stay out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .facts import ReleaseFacts
from .members import ReleaseMember

METRICS_FILE = "metrics.json"

_CONFIG = (
    *("d_in", "d_sae", "d_out", "site", "target_site", "model_fingerprint", "model_dtype"),
    *("context", "normaliser", "target_normaliser", "sparsity", "target_l0", "l0_off_target"),
    "trained_rows",
)
_TRAINING = ("l0", "fvu", "dead_share", "measured_rows")
_EVALUATION = (
    *("n_tokens", "l0", "mse", "fvu", "token_fvu", "cosine", "norm_ratio"),
    *("spliced_loss", "delta_loss", "delta_loss_stderr", "kl"),
    *("recovered_share", "recovered_share_of_zero_ablation", "intervals", "dead_share", "firing"),
    *("weights", "importance", "by_position"),
)
_TOKENS = (
    *("fingerprint", "split", "context", "n_sequences", "n_sequences_asked"),
    "fewer_than_asked",
)


def metrics_of(
    facts: ReleaseFacts, members: Sequence[ReleaseMember], places: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """The content of metrics.json.

    Args:
        facts: facts of the release.
        members: its SAEs.
        places: id -> format -> folder in the release.
    """
    saes = [_sae(member) | {"formats": dict(places[member.id])} for member in members]
    return {"release": facts.model_dump(mode="json"), "saes": saes}


def _sae(member: ReleaseMember) -> dict[str, Any]:
    """One SAE: its record, the figures that training measured, and its evaluation."""
    record = {name: getattr(member.config, name) for name in _CONFIG}
    return {
        "id": member.id,
        **record,
        "settings": member.training,
        "after_training": {name: getattr(member.own, name) for name in _TRAINING},
        "evaluation": _evaluation(member),
    }


def _evaluation(member: ReleaseMember) -> dict[str, Any] | None:
    """The member's figures on held-out text, with the model and the tokens; None without any."""
    document, figures = member.evaluation, member.figures
    if document is None or figures is None:
        return None
    target = figures["target_site"]
    baseline = document["baselines"].get(target, {})
    model = {name: document["model"][name] for name in ("fingerprint", "dtype")}
    return {
        "model": model,
        "tokens": {name: document["tokens"][name] for name in _TOKENS},
        "clean_loss": document["clean"]["loss"],
        "ablated_loss": {name: baseline.get(f"{name}_ablation_loss") for name in ("mean", "zero")},
        **{name: figures[name] for name in _EVALUATION if name in figures},
        "subsets": _subsets(document, figures["name"]),
    }


def _subsets(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The SAE's figures on each subset of the text."""
    return {
        subset: {
            "n_sequences": found["n_sequences"],
            "clean_loss": found["clean_loss"],
            **{key: value for key, value in entry.items() if key != "name"},
        }
        for subset, found in document.get("subsets", {}).items()
        for entry in found["saes"]
        if entry["name"] == name
    }
