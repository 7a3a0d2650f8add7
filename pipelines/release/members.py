"""The SAEs of a release: the name of each, and its figures.

Owns the match between SAEs and evaluations, and the names: `layer_3/width_2k/average_l0_43`, as in
Gemma Scope. If the SAEs read several kinds of sites, the kind comes first.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from ...evaluate.saved.evaluation_file import given_evaluations
from ...foreign import short
from ...train.sae.config import SAEConfig
from ...train.sae.formats.shared.names import width_name
from ...train.sae.formats.trained import trained_settings
from ...train.sae.hub import is_remote
from ...train.sae.sae import SAE
from ...train.settings import FREE_ON_RESUME, TrainSettings

_OF_THE_SAE = {"site", "target_site", "width", "device", "backend"}
"""Settings of train that the SAE's record holds already, or that no figure depends on."""


@dataclass(frozen=True)
class ReleaseMember:
    """One SAE of a release.

    Attributes:
        id: name in the release, a relative path.
        path: where it is read from; written into no file of the release.
        own: its record, as in its files.
        config: its record, with L0 and sites from its evaluation.
        figures: its entry in an evaluation; None without an evaluation.
        evaluation: the evaluation that has the entry.
        training: the training settings that its figures depend on.
    """

    id: str
    path: Path
    own: SAEConfig
    config: SAEConfig
    figures: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    training: dict[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        """Sites and L0, as `train.sae.export.converted` takes them."""
        return {name: getattr(self.config, name) for name in ("site", "target_site", "l0")}


def members_of(saes: Sequence[Any], evaluations: Any) -> list[ReleaseMember]:
    """The members, sorted by site, width and L0; arguments as of `write_release`.

    Raises:
        OSError, ValueError: an SAE or an evaluation cannot be read, they do not belong together, or
            an SAE's site or L0 is in neither of them.
    """
    documents = dict(given_evaluations(evaluations))
    found = [_member(_place(sae), documents) for sae in saes]
    unused = documents.keys() - {where for _, where in found}
    if unused:
        raise ValueError(
            f"evaluations must be of SAEs of the release, got {min(unused)} of others; leave it out"
        )
    members = sorted((member for member, _ in found), key=_order)
    return _named(members)


def _place(sae: Any) -> Path:
    """Where an SAE is read from; that of a loaded one is where it was loaded from or saved to."""
    place = sae.as_setting() if isinstance(sae, SAE) else sae
    if not isinstance(place, str | PathLike):
        raise ValueError(f"saes must be SAEs or their folders, got {short(repr(sae))}")
    if is_remote(str(place)):
        raise ValueError(
            f"saes must be on this machine, got {place}; save it with SAE.from_pretrained(…).save("
            "folder) first"
        )
    return Path(place)


def _order(member: ReleaseMember) -> tuple[Any, ...]:
    kind, _, layer = (member.config.site or "").partition(".")
    config = member.config
    # SAEs with the same L0 are sorted by their settings, not by the order of the arguments.
    last = (config.sparsity or 0.0, config.fvu or 0.0, str(member.training.get("seed")))
    return (kind, int(layer), config.target_site or "", config.d_sae, config.l0, *last)


def _member(path: Path, documents: dict[str, dict[str, Any]]) -> tuple[ReleaseMember, str | None]:
    """An SAE as a member without a name, and the path of its evaluation."""
    own = config = SAE.load(path).config
    where, entry = _entry(path, own, documents)
    if entry is not None:
        target = None if entry["target_site"] == entry["site"] else entry["target_site"]
        facts = {"site": entry["site"], "target_site": target, "l0": entry["l0"]}
        config = config.model_copy(update=facts)
    _, _, layer = (config.site or "").partition(".")
    if config.l0 is None or not (layer.isascii() and layer.isdecimal()):
        raise ValueError(
            f"site and l0 of SAE {path} must be known for its name in the release, got "
            f"{config.site} and {config.l0}; pass an evaluation of it"
        )
    settings = trained_settings(path)
    wanted = TrainSettings.model_fields.keys() - FREE_ON_RESUME - _OF_THE_SAE
    training = {name: settings[name] for name in sorted(wanted & settings.keys())}
    document = documents[where] if where is not None else None
    return ReleaseMember("", path, own, config, entry, document, training), where


def _entry(
    path: Path, config: SAEConfig, documents: dict[str, dict[str, Any]]
) -> tuple[str | None, dict[str, Any] | None]:
    """The SAE's entry in an evaluation, and where that is.

    It is found by the SAE's record, which a move does not change; among SAEs with the same record,
    by the SAE's path.
    """
    record, here = config.model_dump(mode="json"), path.absolute()
    same = [
        (where, entry)
        for where, document in documents.items()
        for entry in document["saes"]
        if record | entry["config"] == record  # an older record lacks newer facts
    ]
    if len(same) > 1:
        by_path = [(w, e) for w, e in same if e.get("path") and Path(e["path"]).absolute() == here]
        same = by_path or same
    if len(same) > 1:
        raise ValueError(
            f"evaluations must have one entry for SAE {path}, got {len(same)}, in "
            f"{', '.join(sorted({where for where, _ in same}))}; leave the others out"
        )
    if documents and not same:
        raise ValueError(
            f"evaluations must have an entry for SAE {path}, got none with its record; evaluate it"
        )
    return same[0] if same else (None, None)


def _named(members: list[ReleaseMember]) -> list[ReleaseMember]:
    """The members with their names; if several have the same, the later ones get a number."""
    kinds = {(member.config.site or "").partition(".")[0] for member in members}
    taken: Counter[str] = Counter()
    named = []
    for member in members:
        config = member.config
        kind, _, layer = (config.site or "").partition(".")
        name = f"layer_{layer}/width_{width_name(config.d_sae)}/average_l0_{round(config.l0 or 0)}"
        name = f"{kind}/{name}" if len(kinds) > 1 else name
        taken[name] += 1
        number = f"_{taken[name]}" if taken[name] > 1 else ""
        named.append(replace(member, id=name + number))
    return named
