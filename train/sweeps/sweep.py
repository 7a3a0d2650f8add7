"""Sweeps: makes members from lists of values or a sweep.toml, trains them, and writes a summary.

Owns the expansion of a sweep and its members' names. `trainer.run` or `on_dask` train the members.

A sweep.toml has the settings that all members share, and a `[[member]]` table for each member with
its own settings:

    store = "activations"
    site = "resid_post.12"
    width = 16384

    [[member]]
    sparsity = 3e-4

    [[member]]
    target_l0 = 60
    width = 32768
"""

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...settings import read_toml, resolve
from ...store.place.ownership import owned
from ..frontier import Board
from ..run.trainer import check_members, check_places, run
from ..sae.formats.trained import trained_config
from ..settings import TrainSettings
from .devices import Devices, devices_of
from .groups import by_stream


def expand(
    out: Path | None,
    config: Path | None = None,
    lists: Mapping[str, Sequence[Any]] | None = None,
    **flags: Any,
) -> list[TrainSettings]:
    """The members of a sweep, each with its own folder under `out`.

    Args:
        out: folder of the whole sweep; None if the file has it.
        config: sweep.toml, or None.
        lists: settings with several values. The members are all their combinations; `sparsity` and
            `target_l0` are alternatives, so their values are joined into one list.
        flags: settings of every member; None means not given. They win over the file.

    Raises:
        ValueError: settings do not fit together, or members are in the file as well as in `lists`.
    """
    base = read_toml(config) if config is not None else {}
    tables, own_out = base.pop("member", []), base.pop("out", None)
    root = out or (Path(own_out) if own_out is not None else None)
    if root is None:
        raise ValueError("out must be given (as --out or in the config file)")
    if empty := [name for name, values in (lists or {}).items() if not len(values)]:
        raise ValueError(f"{empty[0]} must have at least one value, got an empty list")
    combinations = _combinations(lists or {})
    if tables and combinations != [{}]:
        raise ValueError(
            f"members must come from one place, got [[member]] tables in {config} as well as "
            "repeated flags; leave one of them out"
        )
    if any("out" in own for own in tables):
        raise ValueError(
            f"a [[member]] of {config} must have a name, not an out: folders lie in {root}"
        )
    given = {name: value for name, value in flags.items() if value is not None}
    chosen = [base | own | given for own in (tables or combinations)]
    varying = _varying(chosen)
    members = []
    for values in chosen:
        name = values.get("name") or _name(values, varying)
        places = {"out": root / name}
        if "checkpoints" in values:
            places["checkpoints"] = f"{values['checkpoints']}/{name}"
        members.append(resolve(TrainSettings, **(values | places)))
    return members


def sweep(
    members: Sequence[TrainSettings],
    out: Path,
    resume: bool = False,
    wait: bool = False,
    dask: str | None = None,
    devices: str | None = None,
) -> list[Path]:
    """Trains the members; shows a table and keeps sweep.json and frontier.png.

    The summary is also written if a member diverges or the sweep is stopped.

    Args:
        members: on one stream, unless they are spread over workers.
        out: folder of the whole sweep.
        resume: as in `trainer.run`.
        wait: wait for another sweep in `out` to end.
        dask: cluster to spread the members over: local:N, a scheduler's address or file.
        devices: of this machine, with commas between them, to spread the members over.
    """
    spread = devices_of(dask, devices, members)
    if spread is None:
        check_members(members)
    else:
        check_places(members)
    with owned(out, wait):
        return _swept(members, out, resume, wait, spread)


def _swept(
    members: Sequence[TrainSettings], out: Path, resume: bool, wait: bool, spread: Devices | None
) -> list[Path]:
    """The sweep, once this process owns the folder."""
    board = Board(members, out)
    try:
        if spread is None:
            run(members, resume, watch=board.watch, wait=wait)
        else:
            from .on_dask import train_on_dask

            train_on_dask(by_stream(members), spread, resume, board.watch, wait)
    except BaseException:
        # An error in the summary must not hide what stopped the run.
        with suppress(ValueError, OSError):
            _summarise(board, members)
        raise
    _summarise(board, members)
    return [settings.out for settings in members]


def _summarise(board: Board, members: Sequence[TrainSettings]) -> None:
    """Shows the table with the figures that were measured on the trained members."""
    for settings in members:
        config = trained_config(settings.out) if settings.out.is_dir() else None
        if config is not None:
            board.measured(settings.out, config)
    if any(row.l0 is not None for row in board.rows.values()):
        board.show()


def _combinations(lists: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the lists' values; sparsity and target_l0 form one axis together."""
    penalties = [
        {name: value} for name in ("sparsity", "target_l0") for value in lists.get(name, ())
    ]
    axes = [penalties] if penalties else []
    for name, values in lists.items():
        if name not in ("sparsity", "target_l0"):
            axes.append([{name: value} for value in values])
    return [
        {name: value for part in combination for name, value in part.items()}
        for combination in itertools.product(*axes)
    ]


def _varying(members: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the settings in which the members differ."""
    names = sorted({name for values in members for name in values} - {"name", "out"})
    return [n for n in names if len({str(values.get(n)) for values in members}) > 1]


def _name(values: Mapping[str, Any], varying: Sequence[str]) -> str:
    """A folder name from the settings that tell this member apart."""
    names = [name for name in varying if values.get(name) is not None]
    if not names:
        names = ["target_l0" if values.get("target_l0") is not None else "sparsity"]
    parts = [f"{name}_{_short(values[name])}" for name in names if name in values]
    return "-".join(parts) or "member"


def _short(value: Any) -> str:
    """A value as a part of a folder name."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(c if c.isalnum() or c in "._+-" else "_" for c in text)
