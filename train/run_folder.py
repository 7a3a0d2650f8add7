"""The folder of a training run: whose it is, and what may go on in it.

A folder belongs to the run whose settings stand in its config.json. The same settings continue or
are done; other settings, or files of anything else, are refused before a byte is written.
"""

import json
from pathlib import Path
from typing import Any

from ..settings import differences, dump
from ..store.files import write_json
from ..store.location import LocalFiles
from ..store.ownership import PREFIX
from .checkpoint import Checkpoints
from .metrics import METRICS_FILE
from .sae_files import CONFIG_FILE, WEIGHTS_FILE
from .settings import FREE_ON_RESUME, TrainSettings


def is_finished(settings: TrainSettings, store: dict[str, Any], resume: bool) -> bool:
    """Whether the run in `settings.out` is finished already; changes nothing.

    Args:
        settings: the run.
        store: what its store is (`Source.identity`).
        resume: the caller insists that there is something to continue; `steps` may then be raised.

    Raises:
        ValueError: the folder holds something else, or folder or checkpoints are of a run with
            other settings or on another store, or there is nothing to resume.
    """
    out = settings.out
    if out.exists() and not out.is_dir():
        raise ValueError(f"out must be a folder, got the file {out}")
    # A run killed in its very first write leaves a .partial file, which is nobody's work.
    names = (path.name for path in out.iterdir()) if out.is_dir() else iter(())
    present = sorted(
        name for name in names if not (name.endswith(".partial") or name.startswith(PREFIX))
    )
    if present:
        record = _record(out, present)
        refuse_differences(record["settings"], settings, resume, f"{out} holds a run")
        trained = record.get("sae") is not None and (out / WEIGHTS_FILE).is_file()
        if trained and record["settings"]["steps"] == settings.steps:
            return True
    found = _refuse_other_checkpoints(settings, store, resume)
    if resume and not present and not found:
        raise ValueError(
            f"resume needs a run in {out} or checkpoints in {settings.checkpoint_url}, got none; "
            "leave out --resume"
        )
    return False


def claim_folder(settings: TrainSettings) -> None:
    """Makes `settings.out` this run's folder; what killed writes left behind goes."""
    settings.out.mkdir(parents=True, exist_ok=True)
    LocalFiles(settings.out).sweep([CONFIG_FILE, WEIGHTS_FILE, METRICS_FILE])
    write_config(settings, None)


def refuse_differences(
    old: dict[str, Any], settings: TrainSettings, resume: bool, what: str
) -> None:
    """Raises ValueError naming every difference that forbids continuing; more steps are fine on
    resume.
    """
    kept = {name: value for name, value in old.items() if name not in FREE_ON_RESUME}
    new = settings.identity()
    more_steps = resume and settings.lr_decay_share == 0 and settings.steps >= old["steps"]
    if more_steps:
        kept["steps"] = new["steps"]
    different = differences(kept, new)
    if different:
        hint = "pass the same settings, or another out folder"
        if different[0].startswith("steps:") and len(different) == 1 and not resume:
            hint = "add --resume to train for more steps, or pass another out folder"
        raise ValueError(f"{what} with other settings ({'; '.join(different)}); {hint}")


def write_config(settings: TrainSettings, sae: dict[str, Any] | None) -> None:
    """config.json: the resolved settings, and the SAE's record once there is one."""
    write_json(settings.out / CONFIG_FILE, {"sae": sae, "settings": json.loads(dump(settings))})


def _refuse_other_checkpoints(settings: TrainSettings, store: dict[str, Any], resume: bool) -> bool:
    """Makes sure that the newest checkpoint is of this run; returns whether there is one."""
    folder = Checkpoints(
        settings.checkpoint_url, settings.keep_checkpoints, settings.checkpoint_options
    )
    record = folder.newest_record()
    if record is None:
        return False
    what = f"checkpoint {folder.name_of_newest()} is of"
    refuse_differences(record["settings"], settings, resume, f"{what} a run")
    if other := differences(record["store"], store):
        raise ValueError(
            f"{what} another store ({'; '.join(other)}); pass the store it was trained on"
        )
    return True


def _record(out: Path, present: list[str]) -> dict[str, Any]:
    """The config.json of a run, or a refusal naming what the folder holds instead."""
    try:
        record = json.loads((out / CONFIG_FILE).read_text(encoding="utf-8"))
        if not isinstance(record["settings"]["steps"], int):
            raise TypeError("steps is no number")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"out must be empty or hold a training run, got {out} with "
            f"{', '.join(present[:5])}; pass another folder"
        ) from error
    return record
