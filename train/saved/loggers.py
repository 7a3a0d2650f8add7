"""Copies metrics to dashboards: TensorBoard and Weights & Biases, both optional extras.

metrics.jsonl is always written and is the record; these get copies of its lines. Neither needs a
network: W&B runs offline unless WANDB_MODE is set ("online", or "disabled" to switch it off), and
`wandb sync` uploads later.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

from ...foreign import one_line
from ...settings import dump
from ..settings import TrainSettings

_WANDB_MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")


class Logger(Protocol):
    """Takes lines of metrics.jsonl."""

    def write(self, line: dict[str, Any]) -> None:
        """Passes one line on."""
        ...

    def close(self) -> None:
        """Flushes and closes."""
        ...


def check_loggers(members: Sequence[TrainSettings]) -> None:
    """Raises ValueError if a logger's package is not installed; nothing is written."""
    for settings in members:
        if settings.tensorboard:
            _tensorboard(settings)
        if settings.wandb_project is not None and _wandb_mode() != "disabled":
            _wandb(settings)


def open_loggers(settings: TrainSettings, step: int = 0) -> list[Logger]:
    """The loggers that the settings ask for, for a run that continues after update `step`.

    Raises:
        ValueError: a logger's package is not installed; the text has the command that installs it.
    """
    loggers: list[Logger] = []
    if settings.tensorboard:
        loggers.append(_TensorBoard(settings, step))
    if settings.wandb_project is not None and _wandb_mode() != "disabled":
        loggers.append(_Wandb(settings))
    return loggers


class _TensorBoard:
    """Scalars under `out/tensorboard`, by step; lines that a killed run wrote after `step` are
    hidden."""

    def __init__(self, settings: TrainSettings, step: int):
        folder = settings.out / "tensorboard"
        self._writer = _tensorboard(settings).SummaryWriter(folder, purge_step=step + 1)

    def write(self, line: dict[str, Any]) -> None:
        for name, value in numbers(line).items():
            self._writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """One W&B run for a member, with files under `out/wandb`; a continued training continues it."""

    def __init__(self, settings: TrainSettings):
        wandb = _wandb(settings)
        identity = json.dumps([str(settings.out.absolute()), settings.identity()])
        try:
            self._run = wandb.init(
                project=settings.wandb_project,
                name=settings.name or settings.out.name,
                dir=settings.out,
                id=hashlib.sha256(identity.encode()).hexdigest()[:16],
                resume="allow",
                reinit="create_new",  # members of a sweep log side by side
                mode=_wandb_mode(),
                config=json.loads(dump(settings)),
            )
        except wandb.Error as error:  # no key, no network
            raise ValueError(
                f"wandb must be ready to log {settings.out} there, got {one_line(error)}; run "
                "wandb login, or set WANDB_MODE=offline"
            ) from error

    def write(self, line: dict[str, Any]) -> None:
        self._run.log(numbers(line), step=line["step"])

    def close(self) -> None:
        self._run.finish()


def _wandb_mode() -> str:
    """W&B's own switch; offline unless it is set."""
    return os.environ.get("WANDB_MODE") or "offline"


def _tensorboard(settings: TrainSettings) -> Any:
    """The module torch.utils.tensorboard."""
    try:
        return import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise _missing("tensorboard", settings) from error


def _wandb(settings: TrainSettings) -> Any:
    """The package wandb."""
    if _wandb_mode() not in _WANDB_MODES:
        raise ValueError(
            f"WANDB_MODE must be one of {', '.join(_WANDB_MODES)}, got {_wandb_mode()}"
        )
    try:
        return import_module("wandb")
    except ImportError as error:
        raise _missing("wandb", settings) from error


def numbers(line: dict[str, Any]) -> dict[str, float]:
    """The plottable part of a metrics line."""
    return {
        name: value
        for name, value in line.items()
        if isinstance(value, int | float) and name != "step"
    }


def _missing(package: str, settings: TrainSettings) -> ValueError:
    """The error for an optional package that is not there."""
    return ValueError(
        f"{package} must be installed to log {settings.out} there; "
        f"run: pip install 'scopeworks[{package}]'"
    )
