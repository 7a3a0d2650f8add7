"""Harvest: from sequences of tokens to rows of activations, through one forward pass each.

Owns the run over the buckets and its report. `prepare` checks and decides what must hold before,
`plan` says which rows there are, `bucket_job` harvests one bucket.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ...console import NotReadyError, Progress, progress
from ...store import ActivationStore, StoreSpec, StoreWriter
from ...verbs import takes
from ...workers.cluster import check_cluster
from ...workers.share import ALL, TaskShare
from ..model.loading import LanguageModel
from ..settings import HarvestSettings, everywhere, of_loaded
from ..settings_beside import write_settings
from .bucket_job import BucketHarvester
from .on_dask import harvest_on_dask
from .plan import Plan, RowRange
from .prepare import (
    begun_spec,
    open_writer,
    planned,
    prepare,
    resolved,
    say_rounded,
    store_spec,
    warn_of_versions,
)
from .space import check_space

_SHOWN_POSITIONS = 5


@dataclass(frozen=True)
class HarvestReport:
    """What is in the store after a harvest."""

    store: str
    """Its URL."""
    spec: StoreSpec
    dropped_at: Counter[int] = field(default_factory=Counter)
    """Position in the sequence -> rows left out of all buckets, as outliers or because they were
    not finite."""
    place: str = field(default="", compare=False)
    """The store's absolute path or URL."""

    def as_setting(self) -> str:
        """The store's name in settings."""
        return self.place

    @property
    def dropped(self) -> int:
        """Rows left out of all buckets."""
        return self.dropped_at.total()

    def __repr__(self) -> str:
        return f"HarvestReport({self})"

    def __str__(self) -> str:
        rows = self.spec.rows - self.dropped
        text = f"{rows:,} rows of {', '.join(self.spec.sites)} in {self.store}"
        if not self.dropped:
            return text
        ranked = sorted(self.dropped_at.items(), key=lambda item: (-item[1], item[0]))
        most = ", ".join(f"{position} ({n:,})" for position, n in ranked[:_SHOWN_POSITIONS])
        return f"{text}; {self.dropped:,} rows dropped, most at position {most}"


@takes(HarvestSettings)
def harvest_rows(
    settings: HarvestSettings, share: TaskShare = ALL, lm: LanguageModel | None = None
) -> HarvestReport:
    """Harvests a token store's split into an activation store; continues one that was begun.

    Every bucket is a pure function of model, tokens, settings and bucket number, computed and
    committed on its own: however often the command is stopped and run again, the store ends the
    same, bit for bit, on one type of device.

    `rows` are rounded up to whole buckets while there is text, and stderr says so. More than the
    store was begun with let it grow by whole buckets. Nothing else may change.
    `estimate_harvest` says before what it will take.

    Args:
        settings: see `HarvestSettings`.
        share: of the buckets; the first one begins the store.
        lm: the settings' model, loaded; given as `model` among settings by name.

    Raises:
        NotReadyError: another share has not begun the store yet.
        OSError: model, tokens or store cannot be read or written.
        ValueError: model and tokens do not belong together, a site does not exist, there are fewer
            rows than asked for, or the store was begun with other settings (naming them).
    """
    settings = settings if lm is None else of_loaded(settings, lm)
    if settings.dask is not None:
        check_cluster(settings.dask)
    begun = begun_spec(settings)
    if begun is None and not share.is_first:
        raise NotReadyError(f"store {settings.store} is not begun; share 0/{share.count} does that")
    job, plan, writer = _opened(settings, begun, lm)
    with writer:
        spec, settings = writer.spec, resolved(settings, writer.spec)
        warn_of_versions(spec)
        say_rounded(settings, spec)
        write_settings(settings.place(settings.store), "harvest", settings)
        missing = missing_parts(writer, plan)
        parts = {bucket: part for bucket, part in missing.items() if share.has(bucket)}
        with progress("harvest", sum(p.stop - p.start for p in parts.values()), "rows") as bar:
            if settings.dask is not None:
                harvest_on_dask(settings, spec, writer, parts, bar)
            else:
                job.fill_all(writer, parts, _shown(bar, spec.n_buckets))
    store = ActivationStore.open(settings.place(settings.store))
    return HarvestReport(settings.store, spec, store.dropped_at, everywhere(settings.store))


def _opened(
    settings: HarvestSettings, begun: StoreSpec | None, lm: LanguageModel | None
) -> tuple[BucketHarvester, Plan, StoreWriter]:
    """Harvester, plan and the store, begun or continued.

    If another process has begun the store in the meantime, this one takes what was decided there.
    """
    job, origin = prepare(settings, begun, lm)
    plan = planned(settings, job, begun)
    spec = store_spec(settings, plan.rows, job, origin, begun)
    check_space(settings.store, spec, begun)
    try:
        return job, plan, open_writer(settings, spec, background=settings.dask is None)
    except ValueError:
        now = begun_spec(settings) if begun is None else None
        if now is None:
            raise
    return _opened(settings, now, lm)


def missing_parts(writer: StoreWriter, plan: Plan) -> dict[int, RowRange]:
    """The buckets that are not committed yet, with the rows and sequences they need."""
    committed = writer.committed
    return {
        i: plan.part(*writer.bucket_range(i)) for i in range(writer.n_buckets) if i not in committed
    }


def _shown(bar: Progress, n_buckets: int) -> Callable[[int, int], None]:
    """A function that shows rows done and the bucket that they went to."""
    return lambda bucket, n: bar.advance(n, bucket=f"{bucket + 1}/{n_buckets}")
