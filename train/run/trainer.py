"""The training engine: K SAEs on one stream, each batch read, decoded and moved once.

`run` is what `train` and `sweep` call; training one SAE is a sweep of one. Owns the loop, the stop
signals and what members must share. A single member's work is `member`'s.
"""

import itertools
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from ...console import progress
from ...machine import find_device
from ...store.place.local import LocalFiles
from ...store.place.locate import locate
from ...store.place.ownership import owned
from ..saved.loggers import check_loggers
from ..saved.run_folder import claim_folder, find_run
from ..settings import TrainSettings
from .backends import check_backends
from .disk import check_disk
from .member import DivergedError, Member
from .memory import check_memory, is_out_of_memory, memory_text
from .rows import Batches, Source

# One stream of scaled batches on one device serves all members.
SHARED = (
    "store",
    "site",
    "target_site",
    "batch",
    "stream_seed",
    "shuffle_rows",
    "normaliser",
    "device",
    "prefetch",
    "cache_dir",
    "cache_bytes",
)


Watch = Callable[[TrainSettings, dict[str, Any]], None]


def run(
    members: Sequence[TrainSettings],
    resume: bool = False,
    watch: Watch | None = None,
    wait: bool = False,
    stop: Callable[[], bool] | None = None,
) -> list[Path]:
    """Trains every member, or continues it from its newest checkpoint; returns their folders.

    A member equals, bit for bit on a CPU, the same settings trained alone; so does a run that was
    stopped and continued.

    Args:
        members: settings that agree in what one stream serves (`SHARED`) and have different
            folders.
        resume: insist that there is a run to continue; members' `steps` may then be raised.
        watch: called with every line that a member adds to its metrics.jsonl.
        wait: for other processes that own these folders to end.
        stop: asked between two updates; True ends the run as SIGINT does.

    Raises:
        ValueError: settings, store, device and folders do not fit together, another process owns a
            folder, or a member diverged.
        OSError: the store or a folder cannot be read or written.
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM came; checkpoints of this very step are
            written.
    """
    check_members(members)
    with ExitStack() as stack:
        for folder in _folders(members):
            stack.enter_context(owned(folder, wait))
        _run(members, resume, watch or (lambda settings, line: None), stop)
    return [settings.out for settings in members]


def _folders(members: Sequence[TrainSettings]) -> list[Path]:
    """What the run writes into, always in the same order, so that two runs never wait for each
    other."""
    folders = {settings.out.resolve() for settings in members}
    for settings in members:
        place = locate(settings.checkpoint_place)
        if settings.checkpoints is not None and isinstance(place, LocalFiles):
            folders.add(place.root.resolve())
    return sorted(folders)


def _run(
    members: Sequence[TrainSettings],
    resume: bool,
    watch: Watch,
    asked: Callable[[], bool] | None,
) -> None:
    """Checks everything, then trains what is not finished; the folders are ours."""
    device = find_device(members[0].device)
    source = Source.open(members[0])
    members = [settings.resolved_for(source.d_in) for settings in members]
    check_backends(members, device)
    found = [(settings, find_run(settings, resume)) for settings in members]
    unfinished = [settings for settings, run in found if not run.finished]
    for _, run in found:
        if run.checkpoint is not None:
            source = source.as_begun(run.checkpoint.store, run.where)
    check_memory(unfinished, source, device)
    check_disk(unfinished, source)
    check_loggers(unfinished)
    started: list[Member] = []
    try:
        for settings in unfinished:
            claim_folder(settings)
            started.append(Member(settings, source, device))
        _train(list(started), source, device, watch, asked)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"{memory_text(unfinished, source, device)}; the newest checkpoints are intact"
        ) from error
    finally:
        for member in started:
            member.close()


def check_members(members: Sequence[TrainSettings]) -> None:
    """Raises ValueError naming what members would have to share, or a folder claimed twice."""
    if not members:
        raise ValueError(
            "members must be at least one, got none; give a --sparsity or a [[member]]"
        )
    if any(settings.storage_options != members[0].storage_options for settings in members):
        raise ValueError("storage_options must be equal for all members of a sweep")  # not shown
    for name in SHARED:
        values = {str(getattr(settings, name)) for settings in members}
        if len(values) > 1:
            raise ValueError(
                f"{name} must be equal for all members of a sweep, got "
                f"{', '.join(sorted(values))}; run them as separate sweeps"
            )
    check_places(members)


def check_places(members: Sequence[TrainSettings]) -> None:
    """Raises ValueError naming a folder claimed twice."""
    for name in ("out", "checkpoints"):
        places = [getattr(s, name) for s in members if getattr(s, name) is not None]
        twice = {str(place) for place in places if places.count(place) > 1}
        if twice:
            raise ValueError(
                f"{name} must differ between the members of a sweep, got "
                f"{', '.join(sorted(twice))} twice; name the members or make their settings differ"
            )


def _train(
    active: list[Member],
    source: Source,
    device: torch.device,
    watch: Watch,
    asked: Callable[[], bool] | None,
) -> None:
    """Feeds the members until each is done or has diverged.

    The stream starts where the member that is furthest behind stands; the others join when it
    reaches them.
    """
    failures = _finish_done(active)
    if not active:
        _raise(failures)
        return
    laggard = min(active, key=lambda member: member.step)
    n_batches = max(member.settings.steps for member in active) - laggard.step
    with (
        StopSignals(asked) as stop,
        source.batches(laggard.stream_state, device) as batches,
        progress("train", n_batches * source.settings.batch, "rows") as bar,
    ):
        for position in itertools.count(laggard.step):
            if not active:
                break
            x, target, stream_state, waited_s = _next_batch(batches, active)
            shown: dict[str, float] = {}
            for member in [member for member in active if member.step == position]:
                try:
                    result = member.update(x, target, stream_state, waited_s)
                except DivergedError as error:
                    _refuse_non_finite_row(source, x, target, stream_state, active)
                    failures.append(str(error))
                    active.remove(member)
                    continue
                shown = {"L0": result.l0, "FVU": result.mse / source.variance}
                if member.line is not None:
                    watch(member.settings, member.line)
            failures += _finish_done(active)
            bar.advance(x.shape[0], **shown)
            if stop.requested:
                _save_all(active)
                stop.leave()
    _raise(failures)


def _raise(failures: list[str]) -> None:
    """Ends a run some of whose members have failed."""
    if failures:
        raise ValueError("; ".join(failures))


def _next_batch(
    batches: Batches, active: list[Member]
) -> tuple[Tensor, Tensor, dict[str, int], float]:
    """Input, target, the stream's position after them, and the seconds spent waiting."""
    before_s = batches.waiting_s
    try:
        x, target = batches.next()
    except (ValueError, OSError):
        _save_all(active)  # a damaged or vanished store costs no update
        raise
    return x, target, batches.state(), batches.waiting_s - before_s


def _refuse_non_finite_row(
    source: Source, x: Tensor, target: Tensor, state: dict[str, int], active: list[Member]
) -> None:
    """Ends the run if it is the store's fault that a loss is not finite; costs no update."""
    found = source.non_finite_row(x, target, state)
    if found is None:
        return
    _save_all(active)
    kept = ", ".join(member.checkpoints.name_of_newest() for member in active)
    raise ValueError(f"{found}; harvest it again; last good checkpoint: {kept}")


def _finish_done(active: list[Member]) -> list[str]:
    """Measures and writes the members that have made their last update, and lets them go; returns
    what is wrong with those that diverged in it."""
    failures: list[str] = []
    for member in [member for member in active if member.done]:
        active.remove(member)
        try:
            member.finish()
        except DivergedError as error:
            failures.append(str(error))
    return failures


def _save_all(active: list[Member]) -> None:
    """A checkpoint of every member's last update, where there is none yet; one that has diverged in
    it keeps the one before."""
    for member in active:
        with suppress(DivergedError):
            member.save_unless_saved()


class StopSignals:
    """Turns SIGINT and SIGTERM, and what `asked` says, into a request that a loop honours between
    two updates.

    A second signal stops at once. Outside the main thread Python allows no handlers, and nothing is
    changed.
    """

    def __init__(self, asked: Callable[[], bool] | None = None) -> None:
        self.signal: int | None = None
        self._asked = asked or (lambda: False)
        self._old: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            self.leave()
        self.signal = number

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self.signal is not None or self._asked()

    def leave(self) -> None:
        """Ends the run the way the signal asks for: exit code 130 or 143."""
        if self.signal == signal.SIGTERM:
            print("stopped by SIGTERM; the same command continues", file=sys.stderr)
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt
