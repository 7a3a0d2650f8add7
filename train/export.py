"""`scopeworks export`: an SAE read in any format, completed by what the user knows, and written.

Owns the order of the steps and the two sources of what a file does not say: flags, and the JSON of
an evaluation. The formats themselves are `formats`', the norm's gain is `gain`'s.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..foreign import Document, read_document
from .formats import WRITERS, write_sae
from .gain import with_gain
from .sae import SAE
from .settings import local_path


class _Evaluated(Document):
    """What an evaluation says of one SAE."""

    name: str
    path: str | None
    l0: Annotated[float, Field(ge=0)]
    site: str
    target_site: str


class _Evaluation(Document):
    """What an export reads of an evaluation's JSON."""

    saes: list[_Evaluated] = Field(min_length=1)


@dataclass(frozen=True)
class Known:
    """What a user says of an SAE whose file does not; None where the file says it.

    Attributes:
        l0: mean active latents per token.
        site, target_site: where it reads, and where a transcoder writes.
        evaluation: JSON of `scopeworks evaluate`, for L0 and sites.
        model: folder of the language model, whose gain turns transcoder_in into mlp_in.
    """

    l0: float | None = None
    site: str | None = None
    target_site: str | None = None
    evaluation: Path | None = None
    model: Path | None = None


def export(sae_dir: str | Path, format: str, out: str | Path, known: Known | None = None) -> Path:
    """Reads the SAE at `sae_dir` and writes it under `out`; returns the folder that a loader takes.

    Raises:
        ValueError: an unknown format, or one that cannot hold this SAE, or files already there that
            differ.
    """
    known = known or Known()
    if format not in WRITERS:
        raise ValueError(f"format must be one of {', '.join(WRITERS)}, got {format!r}")
    if known.model is not None and format != "gemma-scope-2":
        raise ValueError(f"model has no effect on format {format}; leave it out")
    try:
        source, folder = local_path(Path(sae_dir)), local_path(Path(out))
    except ValueError as error:
        raise ValueError(f"sae and out {error}, got {sae_dir} and {out}") from error
    sae = _completed(SAE.load(source), source, known)
    if known.model is not None:
        sae = with_gain(sae, known.model)
    return write_sae(sae, format, folder)


def _completed(sae: SAE, source: Path, known: Known) -> SAE:
    """The SAE with what evaluation and flags say of it; what its file says must not differ."""
    facts: dict[str, Any] = {}
    if known.evaluation is not None:
        found = _measured(known.evaluation, source)
        target = found.target_site if found.target_site != found.site else None
        facts = {"l0": found.l0, "site": found.site, "target_site": target}
    given = {"l0": known.l0, "site": known.site, "target_site": known.target_site}
    facts |= {name: value for name, value in given.items() if value is not None}
    changes = {}
    for name, value in facts.items():
        recorded = getattr(sae.config, name)
        if name != "l0" and recorded is not None and value not in (None, recorded):
            raise ValueError(
                f"{name} of {source} must be {recorded}, as its file says, got {value}"
            )
        if value is not None:
            changes[name] = value
    config = type(sae.config).model_validate(sae.config.model_dump() | changes)
    return SAE(config, **sae.tensors())


def _measured(path: Path, source: Path) -> _Evaluated:
    """The evaluation's entry of the SAE."""
    if not path.is_file():
        raise FileNotFoundError(f"evaluation {path} does not exist; pass the --out of evaluate")
    found = read_document(_Evaluation, path.read_bytes(), f"evaluation {path}").saes
    own = [sae for sae in found if sae.path and Path(sae.path).resolve() == source.resolve()]
    if len(own) != 1:
        names = ", ".join(str(sae.path or sae.name) for sae in found[:5])
        raise ValueError(f"evaluation {path} must be of {source}, got one of {names}")
    return own[0]
