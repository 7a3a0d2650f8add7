"""Trains K SAEs ("members") on one stream: each batch is read, decoded and moved once.

`run` is what `train` and `sweep` call; training one SAE is a sweep of one. Owns the loop, the stop
signals and what members must share. `member` does the work of a single one.
"""

import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...console import progress
from ...machine import find_device, is_out_of_memory
from ...store.place.local import LocalFiles
from ...store.place.locate import locate
from ...store.place.ownership import owned
from ..ranks.stopping import Beat, StopSignals, agreed
from ..ranks.wire import LostError
from ..ranks.world import World
from ..saved.loggers import check_loggers
from ..saved.run_folder import FoundRun, claim_folder, find_run
from ..settings import TrainSettings
from .backends import check_backends, check_ranks
from .disk import check_disk
from .member import DivergedError, Member
from .memory import check_memory, memory_text
from .rows import Batches, TrainingRows
from .steering import say_high_prices

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
    world: World | None = None,
) -> list[Path]:
    """Trains every member, or continues it from its newest checkpoint; returns their folders.

    A member equals, bit for bit on a CPU, the same settings trained alone; so does a run that was
    stopped and continued.

    Args:
        members: settings that agree in what one stream serves (`SHARED`) and have different
            folders.
        resume: refuse to start if there is no run to continue; members' `steps` may then be raised.
        watch: called with a member's settings and every line that it adds to its metrics.jsonl.
        wait: wait for other processes that own these folders to end.
        stop: asked between two updates; True ends the run as SIGINT does.
        world: the processes that train together; each calls this with the same arguments. By
            default this process alone.

    Raises:
        ValueError: settings, store, device and folders do not fit together, another process owns a
            folder, or a member diverged.
        OSError: the store or a folder cannot be read or written.
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM came; checkpoints of the last update are
            written.
    """
    check_members(members)
    world = world or World()
    world.wait_at_most(members[0].rank_timeout_s)
    with ExitStack() as stack:
        for folder in _folders(members) if world.is_first else ():
            stack.enter_context(owned(folder, wait))
        world.together(patient=wait)  # the first rank may wait for hours
        _run(members, resume, watch or (lambda settings, line: None), stop, world)
    return [settings.out for settings in members]


def _folders(members: Sequence[TrainSettings]) -> list[Path]:
    """The local folders that the run writes into, in one fixed order, so that two runs never wait
    for each other."""
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
    world: World,
) -> None:
    """Checks everything, then trains what is not finished; this process owns the folders."""
    device = find_device(world.device(members[0].device))
    source = TrainingRows.open(members[0])
    members = [settings.resolved_for(source.d_in) for settings in members]
    check_backends(members, device)
    check_ranks(members, source, device, world)
    found = [(settings, _found(settings, resume, world)) for settings in members]
    unfinished = [(settings, run) for settings, run in found if not run.finished]
    for _, run in found:
        if run.checkpoint is not None:
            source = source.as_begun(run.checkpoint.store, run.where)
    to_train = [settings for settings, _ in unfinished]
    check_memory(to_train, source, device, world)
    if world.is_first:
        check_disk(to_train, source)
        check_loggers(to_train)
        say_high_prices(to_train)
        for settings in to_train:
            claim_folder(settings)
    world.together()
    if to_train:
        world.connect(world.wire_for(members[0].device, device), device)
    started: list[Member] = []
    try:
        for settings, run in unfinished:
            step = None if run.checkpoint is None else run.checkpoint.step
            started.append(Member(settings, source, device, world, step))
        _train(list(started), source, device, watch, asked, world)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"{memory_text(to_train, source, device, world, error)}; the newest checkpoints are "
            "intact"
        ) from error
    finally:
        for member in started:
            member.close()


def _found(settings: TrainSettings, resume: bool, world: World) -> FoundRun:
    """What a run has left; the first rank looks and tells the others."""
    if world.is_alone:
        return find_run(settings, resume)
    text = world.of_first(lambda: find_run(settings, resume).text())
    return FoundRun.of_text(text)


def check_members(members: Sequence[TrainSettings]) -> None:
    """Raises ValueError if members differ in a setting that they must share, or share a folder."""
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
    """Raises ValueError if two members have the same `out` or `checkpoints`."""
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
    source: TrainingRows,
    device: torch.device,
    watch: Watch,
    asked: Callable[[], bool] | None,
    world: World,
) -> None:
    """Feeds the members until each is done or has diverged.

    The stream starts at the step of the member that is furthest behind; the others join when it
    reaches theirs.
    """
    failures = _finish_done(active)
    if not active:
        _raise(failures)
        return
    laggard = min(active, key=lambda member: member.step)
    n_batches = max(member.settings.steps for member in active) - laggard.step
    with (
        StopSignals(world, asked) as stop,
        source.batches(laggard.stream_state, device, laggard.share.rows) as batches,
        progress("train", n_batches * source.settings.batch, "rows") as bar,
    ):
        for position in itertools.count(laggard.step):
            if not active:
                break
            world.update = position + 1
            rows, stream_state, waited_s = _next_rows(batches, active, world)
            late = _agreed(world, stop, active)
            x, target = batches.whole(rows)
            shown: dict[str, float] = {}
            for member in [member for member in active if member.step == position]:
                try:
                    is_late = member.late if late is None else late
                    result = member.update(x, target, stream_state, waited_s, is_late)
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
            if world.is_alone and stop.requested:
                _save_all(active)
                stop.leave()
    _raise(failures)


def _raise(failures: list[str]) -> None:
    """Raises ValueError if some members have failed."""
    if failures:
        raise ValueError("; ".join(failures))


def _next_rows(
    batches: Batches, active: list[Member], world: World
) -> tuple[Any, dict[str, int], float]:
    """The next rows, the stream's position after them, and the seconds spent waiting."""
    before_s = batches.waiting_s
    try:
        rows = batches.read()
    except (ValueError, OSError):
        if not world.is_alone:
            agreed(world, Beat(failed=True, loss=active[0].loss))
        _save_all(active)  # a damaged or vanished store costs no update
        raise
    return rows, batches.state(), batches.waiting_s - before_s


def _agreed(world: World, stop: StopSignals, active: list[Member]) -> bool | None:
    """Whether ranks agree that a checkpoint is due by the clock; None for a process alone. If a
    rank got a signal or has no rows, ends the run with a checkpoint."""
    if world.is_alone:
        return None
    (member,) = active
    now = agreed(world, Beat(stop.signal or 0, member.late, loss=member.loss))
    if now.signal or now.failed:
        _save_all(active)
    if now.failed:
        raise LostError("a rank has no rows")
    if now.signal:
        stop.leave(now.signal)
    return now.late


def _refuse_non_finite_row(
    source: TrainingRows, x: Tensor, target: Tensor, state: dict[str, int], active: list[Member]
) -> None:
    """Ends the run, with checkpoints, if a loss is not finite because a stored row is not."""
    found = source.non_finite_row(x, target, state)
    if found is None:
        return
    _save_all(active)
    kept = ", ".join(member.checkpoints.name_of_newest() for member in active)
    raise ValueError(f"{found}; harvest it again; last good checkpoint: {kept}")


def _finish_done(active: list[Member]) -> list[str]:
    """Measures, writes and removes the members that have made their last update; returns the errors
    of those that diverged in it."""
    failures: list[str] = []
    for member in [member for member in active if member.done]:
        active.remove(member)
        try:
            member.finish()
        except DivergedError as error:
            failures.append(str(error))
    return failures


def _save_all(active: list[Member]) -> None:
    """Writes a checkpoint of every member's last update, unless there is one. A member that
    diverged in that update keeps its older checkpoint."""
    for member in active:
        with suppress(DivergedError):
            member.save_unless_saved()
