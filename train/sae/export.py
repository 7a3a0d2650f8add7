"""Writes SAEs in formats that other projects load.

Owns what every export shares: facts that the SAE's files do not have, the norm's gain that some
formats need folded in, and the folder. `formats` owns each format's files.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from ...foreign import Document, validated
from .config import SAEConfig, public_name
from .files import check_own, check_values, local_folder, write_format
from .formats.shared.names import HOOKS
from .formats.shared.reading import agreed, read_document, shown
from .formats.table import EXPORTED, Format
from .hub import is_remote
from .norm_gain import norm_gain, with_gain
from .sae import SAE


class _Measured(Document):
    """What an evaluation says about one SAE."""

    name: str
    path: str | None = None
    site: str
    target_site: str
    d_sae: int
    l0: NonNegativeFloat


class _Evaluation(Document):
    saes: list[_Measured] = Field(min_length=1)


def export_sae(
    sae: str | Path | SAE,
    format: str,
    out: str | Path,
    *,
    model: str | None = None,
    site: str | None = None,
    target_site: str | None = None,
    l0: float | None = None,
    evaluation: str | Path | None = None,
) -> Path:
    """Writes an SAE in a format under `out`; returns the folder that a loader takes.

        export_sae("saes/sparsity_0.0006", "sae-lens", "release")

    A θ below 0 is written as 0: the same features, and every loader computes them.

    Args:
        sae: an `SAE`; the folder or file of any that `SAE.load` reads; or
            `hf://USER/REPOSITORY[@REVISION]/FOLDER` or another URL, as `SAE.from_pretrained` takes.
        format: one of `EXPORTED`.
        out: a folder; an export there that was killed is completed.
        model: language model whose norm's gain is folded into a transcoder at `transcoder_in`,
            which then reads `mlp_in`; for formats that name that site.
        site: site that the SAE reads, if its files do not say.
        target_site: site that a transcoder predicts, if its files do not say.
        l0: for the folder's name; wins over what the files say, which holds only while the tensors
            are theirs.
        evaluation: JSON of `scopeworks evaluate`, to take site, target_site and l0 from.

    Raises:
        OSError: a file is missing or cannot be written.
        ValueError: an unknown format, or one that cannot hold this SAE, facts that contradict its
            files, or files already there that differ.
    """
    row, folder = format_named(format), local_folder("out", out)
    sae, source = _read(sae)
    facts: dict[str, Any] = {"site": site, "target_site": target_site, "l0": l0}
    if evaluation is not None:
        facts = _measured(Path(evaluation), source, sae.config, facts)
    name, files, tensors = converted(sae, row, facts, model, f"SAE {source}")
    folder = folder / name
    _check_folder(folder, list(files), tensors, row)
    write_format(folder, files)
    return folder


def _read(given: str | Path | SAE) -> tuple[SAE, str]:
    """The SAE, and what errors and evaluations call it."""
    if isinstance(given, SAE):
        place = None if given.changed() else given.source or given.path
        return given, place or "that was given"
    sae = SAE.from_pretrained(given) if is_remote(str(given)) else SAE.load(given)
    return sae, sae.source or str(given)


def format_named(name: str) -> Format:
    """The format of `export --format`; ValueError for another name."""
    if name not in EXPORTED:
        raise ValueError(f"format must be one of {', '.join(EXPORTED)}, got {name!r}")
    return EXPORTED[name]


def converted(
    sae: SAE, row: Format, facts: dict[str, Any], gain_of: str | None = None, where: str = "SAE"
) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """An SAE in a format: the folder's name, its files in the order in which they are written, and
    the tensors that are in them.

    Args:
        sae: as it was read.
        row: the format.
        facts: `site`, `target_site` and `l0`; None where the SAE's own record holds.
        gain_of: language model whose norm's gain is folded in; see `export`.
        where: names the SAE in errors.

    Raises:
        OSError: a file of the language model is missing.
        ValueError: see `export`.
    """
    if sae.config.k is not None:
        raise ValueError(
            f"format {row.export} must be of a JumpReLU SAE, got a top-k SAE (k {sae.config.k}): "
            f"{where}; its own files are what others load"
        )
    config, tensors = _with_facts(sae.current_config(), facts), sae.tensors()
    if gain_of is not None:
        config, tensors = _with_gain(config, tensors, gain_of, row)
    tensors = tensors | {"theta": tensors["theta"].clamp(min=0)}
    check_values(tensors, where)
    if config.model is not None:
        config = config.model_copy(update={"model": public_name(config.model)})
    return *row.files(config, tensors), tensors


def _measured(path: Path, source: str, config: SAEConfig, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts; those that are None are taken from the evaluation's entry for this SAE."""
    if not path.is_file():
        raise FileNotFoundError(
            f"evaluation {path} does not exist; pass the --out file of scopeworks evaluate"
        )
    entries = read_document(_Evaluation, path).saes
    here = _whole(source)
    found = [entry for entry in entries if entry.path and _whole(entry.path) == here]
    if not found:
        raise ValueError(
            f"evaluation {path} must be of the SAE {source}, got "
            f"{', '.join((entry.path or entry.name)[-60:] for entry in entries[:5])}; pass l0 "
            "and site, or evaluate this SAE"
        )
    entry = found[0]
    agreed(str(path), f"d_sae of {entry.name}", entry.d_sae, config.d_sae)
    target = None if entry.target_site == entry.site else entry.target_site
    measured = {"site": entry.site, "target_site": target, "l0": entry.l0}
    return {name: measured[name] if fact is None else fact for name, fact in facts.items()}


def _whole(name: str) -> str:
    """A path from the root on; a URL as it is."""
    return name if is_remote(name) else str(Path(name).absolute())


def _with_facts(config: SAEConfig, facts: dict[str, Any]) -> SAEConfig:
    """The config with what was given; sites that the files tell must not differ.

    Raises:
        ValueError: they do, or a site is missing or no `<kind>.<layer>`.
    """
    known = {name: value for name, value in facts.items() if value is not None}
    for name in ("site", "target_site"):
        recorded = getattr(config, name)
        if recorded is not None and known.get(name, recorded) != recorded:
            raise ValueError(
                f"{name} must be {recorded}, as the SAE's files say, got {known[name]}; leave it "
                "out"
            )
    config = validated(SAEConfig, config.model_dump() | known, "the options of export")
    wanted = ["site", *(["target_site"] if config.is_transcoder else [])]
    for name in wanted:
        kind, _, layer = (getattr(config, name) or "").partition(".")
        if kind not in HOOKS or not (layer.isascii() and layer.isdecimal()):
            raise ValueError(
                f"{name} must be known as <kind>.<layer>, a kind being one of {', '.join(HOOKS)}, "
                f"got {shown(getattr(config, name))}; pass {name}"
            )
    return config


def _with_gain(
    config: SAEConfig, tensors: dict[str, Tensor], model: str, row: Format
) -> tuple[SAEConfig, dict[str, Tensor]]:
    """The same transcoder with the norm's gain folded in, so that it reads the norm's output."""
    kind, _, layer = (config.site or "").partition(".")
    if not row.wants_gain or kind != "transcoder_in" or not config.is_transcoder:
        wanting = " or ".join(name for name, other in EXPORTED.items() if other.wants_gain)
        raise ValueError(
            f"model has no effect on an SAE of {config.site} as {row.export}; leave it out: it is "
            f"for a transcoder at transcoder_in as {wanting}"
        )
    norm, gain = norm_gain(model, int(layer))
    if len(gain) != config.d_in:
        raise ValueError(
            f"model must be the one that the SAE was trained on, got {model}, whose norm has "
            f"{len(gain)} channels where the SAE reads {config.d_in}"
        )
    return config.model_copy(update={"site": f"mlp_in.{layer}"}), with_gain(
        tensors, gain, f"{norm} in {model}"
    )


def _check_folder(folder: Path, names: list[str], tensors: dict[str, Tensor], row: Format) -> None:
    """Refuses a folder with other files in it, or with another SAE that is complete."""
    check_own("out", folder, names, "an earlier export")
    if (folder / names[-1]).is_file() and not _same_tensors(row.read(folder)[1], tensors):
        raise ValueError(
            f"out must not hold another SAE, got {folder}, whose numbers differ; pass another "
            "folder, one for each site"
        )


def _same_tensors(old: dict[str, Tensor], new: dict[str, Tensor]) -> bool:
    """Whether two SAEs are the same numbers."""
    return old.keys() == new.keys() and all(
        old[name].shape == tensor.shape and torch.equal(old[name].cpu(), tensor.float().cpu())
        for name, tensor in new.items()
    )
