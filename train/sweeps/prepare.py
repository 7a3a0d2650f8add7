"""Checks before a sweep begins on Dask: which members are left, and what the workers have.

Checks settings, stores, folders, disks and the workers' memory. Writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...store.place.ownership import owned
from ..run.disk import check_disk
from ..run.rows import TrainingRows
from ..run.trainer import check_places
from ..saved.loggers import check_loggers
from ..saved.run_folder import find_run
from ..settings import TrainSettings
from .devices import check_kind


@dataclass(frozen=True)
class Stand:
    """A member that is not finished.

    Attributes:
        given: its settings as the caller gave them.
        settings: resolved, with absolute paths: a worker has another working directory.
        source: the rows of its stream.
        step: updates done.
    """

    given: TrainSettings
    settings: TrainSettings
    source: TrainingRows
    step: int


def prepared(
    streams: Sequence[Sequence[TrainSettings]], resume: bool, wait: bool
) -> list[list[Stand]]:
    """The members that are not finished, stream by stream; nothing is written.

    Args:
        streams: members that read one stream each.
        resume: as `trainer.run` takes it.
        wait: for other processes that own members' folders to end.

    Raises:
        ValueError: settings, stores and folders do not fit together, or another process owns a
            folder.
        OSError: a store cannot be read.
    """
    check_places([settings for stream in streams for settings in stream])
    found: list[list[Stand]] = []
    for stream in streams:
        source = TrainingRows.open(stream[0])
        stands = []
        for given in stream:
            settings = _everywhere(given.resolved_for(source.d_in))
            with owned(settings.out, wait):
                run = find_run(settings, resume)
            if not run.finished:
                step = run.checkpoint.step if run.checkpoint is not None else 0
                stands.append(Stand(given, settings, source, step))
        left = [one.settings for one in stands]
        check_disk(left, source)
        check_loggers(left)
        found += [stands] if stands else []
    return found


def sent(settings: TrainSettings) -> dict[str, Any]:
    """Settings with their storage options: for a worker's memory, never for a file."""
    return settings.model_dump(mode="json") | {"storage_options": settings.storage_options}


def worker_bytes_of(workers: dict[str, dict[str, Any]]) -> int:
    """Bytes that each worker may count on; workers of one place share what is free there.

    Args:
        workers: address -> what `group_task.room_here` has found there.

    Raises:
        ValueError: the workers' kinds of devices or libraries differ; then their bits would too.
    """
    wanted = next(iter(workers.values()))["kind"]
    for address, found in workers.items():
        check_kind(wanted, found["kind"], address)
    places = [tuple(found["place"]) for found in workers.values()]
    return min(
        found["free"] // places.count(place)
        for place, found in zip(places, workers.values(), strict=True)
    )


def _everywhere(settings: TrainSettings) -> TrainSettings:
    """Settings with absolute paths, which mean the same in every working directory."""
    store = settings.store
    paths: dict[str, Any] = {
        "out": settings.out.expanduser().absolute(),
        "store": _path(store) if isinstance(store, str) else tuple(map(_path, store)),
    }
    if settings.checkpoints is not None:
        paths["checkpoints"] = _path(settings.checkpoints)
    if settings.cache_dir is not None:
        paths["cache_dir"] = settings.cache_dir.expanduser().absolute()
    return settings.model_copy(update=paths)


def _path(url: str) -> str:
    """A local path made absolute; a URL as it is."""
    return url if "://" in url else str(Path(url).expanduser().absolute())
