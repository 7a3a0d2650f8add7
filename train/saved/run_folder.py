"""The folder of a training run: which run it belongs to, and whether that may be continued.

A folder belongs to the run whose settings are in its config.json. The same settings continue the
run or find it finished. Other settings, or other files, are refused before a byte is written.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...foreign import one_line, read_document, validated
from ...settings import differences, dump
from ...store.place.files import write_json
from ...store.place.local import LocalFiles
from ...store.place.ownership import PREFIX
from ..sae.config import SAEConfig
from ..sae.files import check_tensors
from ..sae.formats.trained import CONFIG_FILE, WEIGHTS_FILE
from ..sae.tensor_file import stand_ins
from ..settings import FREE_ON_RESUME, TrainSettings
from .checkpoint import Checkpoints
from .metrics import METRICS_FILE
from .records import CheckpointRecord, RunRecord, RunSettings


@dataclass(frozen=True)
class FoundRun:
    """What is on disk of a run."""

    finished: bool
    """Whether its SAE is there and whole."""
    checkpoint: CheckpointRecord | None = None
    """The newest checkpoint's record, if the run is not finished and has one."""
    where: str = ""
    """Names that checkpoint in messages."""

    def text(self) -> str:
        """As JSON, which the first rank sends to the others."""
        checkpoint = None if self.checkpoint is None else self.checkpoint.model_dump(mode="json")
        return json.dumps({"finished": self.finished, "where": self.where, "of": checkpoint})

    @classmethod
    def of_text(cls, text: str) -> "FoundRun":
        """The inverse of `text`."""
        told = json.loads(text)
        checkpoint = told["of"]
        if checkpoint is not None:
            checkpoint = validated(CheckpointRecord, checkpoint, told["where"])
        return cls(told["finished"], checkpoint, told["where"])


def find_run(settings: TrainSettings, resume: bool) -> FoundRun:
    """Looks for the run in `settings.out` and in its checkpoints; changes nothing.

    Args:
        settings: the run.
        resume: there must be something to continue; `steps` may then be raised.

    Raises:
        ValueError: the folder holds something else; folder or checkpoints are of a run with other
            settings; there is nothing to resume; or a trained SAE is damaged and there is no
            checkpoint to make it from again.
    """
    out = settings.out
    present, fault = _present(out), None
    if present:
        record = _record(out, present)
        refuse_differences(record.settings, settings, resume, f"{out} holds a run")
        if record.sae is not None and record.settings["steps"] == settings.steps:
            fault = _fault(out, record.sae)
            if fault is None:
                return FoundRun(finished=True)
    found = _newest_checkpoint(settings, resume)
    if resume and not present and found.checkpoint is None:
        raise ValueError(
            f"resume needs a run in {out} or checkpoints in {settings.checkpoint_place.url}, got "
            "none; leave out --resume"
        )
    if fault is not None:
        _say_finished_again(out, fault, found)
    return found


def _present(out: Path) -> list[str]:
    """The names in a folder, without those of killed writes and of an owner's lock."""
    if not out.is_dir():
        return []
    names = (path.name for path in out.iterdir())
    return sorted(
        name for name in names if not (name.endswith(".partial") or name.startswith(PREFIX))
    )


def _fault(out: Path, sae: dict[str, Any]) -> str | None:
    """What is wrong with a trained SAE's header, length or shapes; None if nothing is."""
    try:
        config = SAEConfig.model_validate(sae)
        check_tensors(stand_ins(LocalFiles(out), WEIGHTS_FILE), config)
    except (ValueError, OSError) as error:
        return one_line(error)
    return None


def _say_finished_again(out: Path, fault: str, found: FoundRun) -> None:
    """Says that a damaged SAE is made again from its checkpoint. Without one raises ValueError:
    training for days again must be the user's decision."""
    if found.checkpoint is None:
        raise ValueError(
            f"{out / WEIGHTS_FILE} is damaged ({fault}) and there is no checkpoint to make it from "
            f"again; remove {out} to train again"
        )
    print(
        f"{out / WEIGHTS_FILE} is damaged ({fault}); it is made again from {found.where}",
        file=sys.stderr,
    )


def claim_folder(settings: TrainSettings) -> None:
    """Makes `settings.out` this run's folder and removes what killed writes left there."""
    settings.out.mkdir(parents=True, exist_ok=True)
    LocalFiles(settings.out).sweep([CONFIG_FILE, WEIGHTS_FILE, METRICS_FILE])
    write_config(settings)


def refuse_differences(
    old: dict[str, Any], settings: TrainSettings, resume: bool, what: str
) -> None:
    """Raises ValueError naming every difference between the settings of a run and those given.

    Args:
        old: `identity()` of the run as it was recorded.
        settings: as given now.
        resume: whether more steps are allowed (unless lr decays at the end).
        what: begins the error's text.
    """
    new, fields = settings.identity(), TrainSettings.model_fields
    # A setting that did not exist when the run began had its default.
    kept = {name: fields[name].default for name in new if not fields[name].is_required()}
    kept |= {name: value for name, value in old.items() if name not in FREE_ON_RESUME}
    more_steps = resume and settings.lr_decay_share == 0 and settings.steps >= old.get("steps", 0)
    if more_steps:
        kept["steps"] = new["steps"]
    different = differences(kept, new)
    if different:
        hint = "pass the same settings, or another out folder"
        if different[0].startswith("steps:") and len(different) == 1 and not resume:
            hint = "add --resume to train for more steps, or pass another out folder"
        raise ValueError(f"{what} with other settings ({'; '.join(different)}); {hint}")


def write_config(
    settings: TrainSettings,
    sae: dict[str, Any] | None = None,
    used: dict[str, Any] | None = None,
) -> None:
    """Writes config.json: the resolved settings and, once trained, the SAE's record and `used`."""
    record = {"sae": sae, "used": used, "settings": json.loads(dump(settings))}
    write_json(settings.out / CONFIG_FILE, record)


def _newest_checkpoint(settings: TrainSettings, resume: bool) -> FoundRun:
    """The newest checkpoint, if there is one, after checking that it is of this run."""
    folder = Checkpoints(settings.checkpoint_place, settings.keep_checkpoints)
    record = folder.newest_record()
    if record is None:
        return FoundRun(finished=False)
    where = f"checkpoint {folder.name_of_newest()}"
    checked = validated(CheckpointRecord, record, where)
    validated(RunSettings, checked.settings, f"settings in {where}")
    refuse_differences(checked.settings, settings, resume, f"{where} is of a run")
    return FoundRun(False, checked, where)


def _record(out: Path, present: list[str]) -> RunRecord:
    """The config.json of a run, or a refusal naming what the folder holds instead."""
    path = out / CONFIG_FILE
    try:
        record = read_document(RunRecord, path.read_bytes(), str(path))
        validated(RunSettings, record.settings, f"settings in {path}")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"out must be empty or hold a training run, got {out} with "
            f"{', '.join(present[:5])} ({one_line(error)}); pass another folder"
        ) from error
    return record
