"""A release: one folder with everything that people load, read and check, and how it is written.

    README.md                 the model card
    metrics.json              every figure of every SAE
    figures/                  the frontier, as SVG and PNG
    layer_3/width_2k/…        Gemma Scope's format, under its path names
    sae_lens/layer_3/…        SAELens folders, under the same names
    gemma_scope_2/…           Gemma Scope 2's format
    SHA256SUMS                digests of all files

Owns the order of writing. Equal inputs give equal bytes on any machine at any time: no file holds a
path, host or time. SHA256SUMS is written last; if the process is killed, the same call completes
the release.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...arguments import several
from ...console import progress
from ...foreign import one_line
from ...settings import from_table
from ...store.place.files import json_bytes, local_path, write_file
from ...store.place.local import LocalFiles
from ...train.sae.config import public_name
from ...train.sae.export import converted, format_named
from ...train.sae.files import write_format
from ...train.sae.sae import SAE
from .card import CARD_FILE, card_of
from .facts import ReleaseFacts
from .figures import figures_of
from .members import ReleaseMember, members_of
from .metrics import METRICS_FILE, metrics_of
from .sums import SUMS_FILE, UNFINISHED, files_in, names_begun, sums_of, sums_text

_FOLDERS = {"gemma-scope": "", "sae-lens": "sae_lens", "gemma-scope-2": "gemma_scope_2"}
"""Format -> its folder in the release."""


def write_release(
    out: str | Path,
    saes: SAE | str | Path | Sequence[SAE | str | Path],
    facts: ReleaseFacts | Mapping[str, Any],
    *,
    evaluations: dict[str, Any] | str | Path | Sequence[dict[str, Any] | str | Path] = (),
    formats: str | Sequence[str] = ("gemma-scope", "sae-lens"),
    gain_of: str | None = None,
) -> Path:
    """Writes a release; returns its folder.

    Files of the same release are written again with the same bytes. Files of an earlier release are
    removed if they are not in this one. Only one process may write a folder at a time.

    Args:
        out: the release's folder: new, empty, or an earlier release.
        saes: saved SAEs, or folders of any that `SAE.load` reads, in any order.
        facts: facts that are not in the SAEs' files: a `ReleaseFacts`, or its fields by name.
        evaluations: results of `evaluate`, or the JSON files that it wrote: one for all SAEs, one
            for each, or none.
        formats: names of `export --format`. An SAE is left out of a format that cannot hold it.
        gain_of: language model whose norm's gain turns transcoders at `transcoder_in` into Gemma
            Scope 2 transcoders.

    Raises:
        OSError: naming what cannot be read or written.
        ValueError: inputs that do not belong together, a fact that contains a path or another
            model than the SAEs', a format that can hold none of the SAEs, or a folder with other
            files in it.
    """
    folder = local_path(Path(out))
    if not isinstance(facts, ReleaseFacts):
        facts = from_table(ReleaseFacts, facts, "facts")
    saes, formats = several(saes), several(formats)
    if not saes:
        raise ValueError("saes must be given at least once, got none; train some first")
    for name in formats:
        format_named(name)
    if not formats or len(set(formats)) < len(formats):
        raise ValueError(f"formats must be given, and each once, got {list(formats)}")
    members = members_of(saes, evaluations)
    _check_model(facts.model, members)
    _Writer(folder).write(members, facts, formats, gain_of)
    return folder


class _Writer:
    """Writes into one folder, and keeps the names of all files that it may have written."""

    def __init__(self, folder: Path):
        self._folder, self._names = folder, set[str]()
        self._begun = names_begun(folder)
        if others := sorted(files_in(folder) - self._begun):
            raise ValueError(
                f"out must be empty or hold an earlier release, got {folder} with "
                f"{', '.join(others[:5])}; pass another folder"
            )

    def write(
        self,
        members: Sequence[ReleaseMember],
        facts: ReleaseFacts,
        formats: Sequence[str],
        gain_of: str | None,
    ) -> None:
        """See `write_release`."""
        self._begin([])
        LocalFiles(self._folder).remove(SUMS_FILE)
        places = self._write_saes(members, formats, facts.model, gain_of)
        figures = figures_of(members)
        documents = {
            METRICS_FILE: json_bytes(metrics_of(facts, members, places)),
            **figures,
            CARD_FILE: card_of(facts, members, places, sorted(figures)).encode(),
        }
        self._begin(documents)
        for name, data in documents.items():
            write_file(self._folder / name, data)
        self._remove_others()
        sums = sums_of(self._folder, self._names)
        write_file(self._folder / SUMS_FILE, sums_text(sums).encode())
        LocalFiles(self._folder).remove(UNFINISHED)

    def _write_saes(
        self,
        members: Sequence[ReleaseMember],
        formats: Sequence[str],
        model: str,
        gain_of: str | None,
    ) -> dict[str, dict[str, str]]:
        """Writes all SAEs in all formats that can hold them.

        Returns:
            id -> format -> folder in the release.
        """
        places: dict[str, dict[str, str]] = {member.id: {} for member in members}
        refusals: dict[str, str] = {}
        with progress("release", len(members), "SAEs") as bar:
            for member in members:
                sae = SAE.load(member.path)
                sae.config = sae.config.model_copy(update={"model": model})
                for format in formats:
                    try:
                        place = self._write_sae(member, sae, format, gain_of)
                    except ValueError as error:
                        refusals[format] = f"{member.id}: {one_line(error)}"
                        continue
                    places[member.id][format] = place
                if not places[member.id]:
                    raise ValueError(
                        f"formats must hold every SAE, got {'; '.join(refusals.values())}"
                    )
                bar.advance(1)
        for format, why in refusals.items():
            if not any(format in found for found in places.values()):
                raise ValueError(f"format {format} must hold one of the SAEs at least; {why}")
            print(f"left out of {format}: {why}", file=sys.stderr)
        return places

    def _write_sae(self, member: ReleaseMember, sae: SAE, format: str, gain_of: str | None) -> str:
        """Writes one SAE in one format; returns its folder in the release."""
        row = format_named(format)
        gainless = (member.config.site or "").startswith("transcoder_in.")
        wanted = row.wants_gain and gainless and member.config.is_transcoder
        gained = gain_of if wanted else None
        name, files, _ = converted(sae, row, member.facts, gained, f"SAE {member.id}")
        place = member.id
        if name and format != "gemma-scope":  # the format's own names
            number = member.id.rpartition("/")[2].removeprefix("average_l0_").partition("_")[2]
            place = f"{name}_{number}" if number else name
        place = f"{_FOLDERS[format]}/{place}".lstrip("/")
        self._begin(f"{place}/{file}" for file in files)
        write_format(self._folder / place, files)
        return place

    def _begin(self, names: Any) -> None:
        """Notes names before the files are written, so that a later release can remove them."""
        self._names |= set(names)
        text = "".join(f"{name}\n" for name in sorted(self._begun | self._names))
        write_file(self._folder / UNFINISHED, text.encode())

    def _remove_others(self) -> None:
        """Removes files of an earlier release, empty folders, and remains of killed writes."""
        place = LocalFiles(self._folder)
        place.sweep(self._begun | self._names)
        for name in sorted(self._begun - self._names - {SUMS_FILE, UNFINISHED}):
            place.remove(name)
            for parent in (self._folder / name).parents:
                if parent == self._folder or not parent.is_dir() or any(parent.iterdir()):
                    break
                parent.rmdir()


def _check_model(model: str, members: Sequence[ReleaseMember]) -> None:
    """Refuses a model that is not the SAEs'.

    A folder may have any name, so a hub id may be given for SAEs that were trained on a folder's
    model.

    Raises:
        ValueError: naming an SAE of another model.
    """
    for member in members:
        own = public_name(member.config.model or model)
        renamed = "/" in model and "/" not in own
        if not renamed and model.rpartition("/")[2] != own.rpartition("/")[2]:
            raise ValueError(
                f"facts: model must be the one that the SAEs are of, got {model}, but "
                f"{member.path} is of {own}; pass model={own!r}"
            )
