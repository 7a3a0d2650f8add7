"""The folder of a training run: whose it is, and what may go on in it.

A folder belongs to the run whose settings stand in its config.json. The same settings continue or
are done; other settings, or files of anything else, are refused before a byte is written.
"""

import json
from pathlib import Path
from typing import Any

from ..settings import differences, dump
from .sae_files import CONFIG_FILE, WEIGHTS_FILE, write_json
from .settings import FREE_ON_RESUME, TrainSettings


def claim_folder(settings: TrainSettings, resume: bool) -> bool:
    """Makes `settings.out` this run's folder; returns whether the run is finished already.

    Args:
        settings: the run.
        resume: the caller insists that there is something to continue; `steps` may then be raised.

    Raises:
        ValueError: the folder holds something else, a run with other settings, or nothing to
            resume.
    """
    out = settings.out
    if out.exists() and not out.is_dir():
        raise ValueError(f"out must be a folder, got the file {out}")
    # A run killed in its very first write leaves a .partial file, which is nobody's work.
    names = (path.name for path in out.iterdir()) if out.is_dir() else iter(())
    present = sorted(name for name in names if not name.endswith(".partial"))
    if not present:
        if resume and settings.checkpoints is None:
            raise ValueError(f"resume needs a run in {out}, which is empty; leave out --resume")
        out.mkdir(parents=True, exist_ok=True)
        write_config(settings, None)
        return False
    record = _record(out, present)
    refuse_differences(record["settings"], settings, resume, f"{out} holds a run")
    if record["settings"]["steps"] == settings.steps and (out / WEIGHTS_FILE).is_file():
        return record.get("sae") is not None
    write_config(settings, None)
    return False


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
