"""The rows that a run trains on: of one store (or several joined), of one site (or an input and a
target site), in one order.

Owns what the trainer needs to know about the store: widths, normalisers, the variance behind FVU,
and batches in scaled units. The store itself is `scopeworks.store`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from ...store import ActivationStore
from ...store.read import store_identity as growth
from ...store.read.variance import is_constant
from ...store.write.saturation import warn_of_saturation
from ..kernels import RowBlocks
from ..settings import TrainSettings

SCALED_SQUARES = (1e-12, 1e12)
"""Bounds of E‖x/C‖²: far beyond them the squares in the loss overflow or vanish in float32."""

Pair = tuple[Tensor, Tensor]  # input and target; for an SAE both are the same tensor


@dataclass(frozen=True)
class TrainingRows:
    """An open store, with what one run needs to know of its sites."""

    store: ActivationStore
    settings: TrainSettings
    normaliser: float
    """C of the input site."""
    target_normaliser: float
    """C of the target site; the input's own for an SAE."""
    variance: float
    """E‖t−E t‖² of the scaled target t, from the commits' Σx and Σ‖x‖²: FVU's denominator."""

    @classmethod
    def open(cls, settings: TrainSettings) -> "TrainingRows":
        """Opens the store and checks that it can feed the run.

        Raises:
            FileNotFoundError: there is no store.
            ValueError: it lacks a site or holds less than one batch.
        """
        store = ActivationStore.open(
            settings.store_places,
            cache_dir=settings.cache_dir,
            cache_bytes=settings.cache_bytes,
        )
        for name in filter(None, (settings.site, settings.target_site)):
            if name not in store.sites:
                raise ValueError(
                    f"site must be one of the store's ({', '.join(sorted(store.sites))}), "
                    f"got {name}; harvest it first, or join the store that has it (--store A "
                    "--store B)"
                )
        sites = filter(None, (settings.site, settings.target_site))
        warn_of_saturation(store.url, store.commits, store.spec, sites)
        for note in store.notes:
            print(f"note: {note}", file=sys.stderr)
        if not store.complete:
            print(
                f"store {store.url} is not complete: training sees the {store.rows:,} of "
                f"{store.spec.rows:,} rows that are committed now, and goes on with these when "
                "there are more",
                file=sys.stderr,
            )
        return cls._of(store, settings)

    def as_begun(self, record: dict[str, Any], where: str) -> "TrainingRows":
        """The rows that a run was begun with: a store that has grown still has them.

        Args:
            record: `identity()` when the run was begun.
            where: names the checkpoint with the record, for errors.

        Raises:
            ValueError: it is another store, or no longer holds all of these rows.
        """
        store = growth.as_begun(self.store, record, where)
        if store.rows == self.store.rows:
            return self
        print(
            f"store {store.url} has grown: the run goes on, as if it had not, with the "
            f"{store.rows:,} of {self.store.rows:,} rows that it was begun with; the others are "
            "for new runs",
            file=sys.stderr,
        )
        return self._of(store, self.settings)

    @classmethod
    def _of(cls, store: ActivationStore, settings: TrainSettings) -> "TrainingRows":
        """The source for the store's rows as it is now."""
        if store.rows < settings.batch:
            raise ValueError(
                f"batch must be at most the {store.rows} rows of store {store.url}, "
                f"got {settings.batch}; harvest more rows or lower the batch"
            )
        target = settings.target_site or settings.site
        variances = {site: _variance(store, site) for site in (settings.site, target)}
        C_in = _normaliser(store, settings.site, settings)
        C_target = C_in if target == settings.site else _normaliser(store, target, settings)
        return cls(store, settings, C_in, C_target, variances[target] / C_target**2)

    @property
    def d_in(self) -> int:
        """Width of the input site."""
        return self.store.sites[self.settings.site]

    @property
    def d_out(self) -> int:
        """Width of the target site."""
        return self.store.sites[self.settings.target_site or self.settings.site]

    @property
    def site_names(self) -> list[str]:
        """The sites that are read: the input, and a transcoder's target."""
        settings = self.settings
        return [settings.site] + ([settings.target_site] if settings.target_site else [])

    def identity(self) -> dict[str, Any]:
        """What the store holds, whatever its address: a run is continued only on the same rows."""
        return growth.identity(self.store)

    def target_mean(self) -> Float64[Tensor, "d_out"]:
        """Mean of the scaled target rows."""
        settings = self.settings
        return self.store.mean(settings.target_site or settings.site) / self.target_normaliser

    def non_finite_row(self, x: Tensor, target: Tensor, state: dict[str, int]) -> str | None:
        """Names site, store row, sequence and position of a batch's first row that holds NaN or
        infinity; None if there is none.

        Args:
            x, target: the batch.
            state: the stream's position after it.
        """
        settings = self.settings
        for site, rows in ((settings.site, x), (settings.target_site or settings.site, target)):
            bad = (~rows.isfinite()).any(dim=1).nonzero()
            if len(bad):
                before = state | {"row": state["row"] - settings.batch}
                row = int(self.store.rows_of(before, settings.batch)[int(bad[0])])
                labels = self.store.labels(row, row + 1)
                return (
                    f"site {site} of store {self.store.url} must be finite, got NaN or infinity in "
                    f"row {row} (sequence {labels.sequence[0]}, position {labels.position[0]}; row "
                    f"{int(bad[0])} of batch {state['row'] // settings.batch - 1})"
                )
        return None

    def stream_dtype(self, device: torch.device, travel: bool = False) -> str:
        """The dtype in which rows are sent to a GPU or to other ranks: bfloat16 if every site that
        is read is stored as bfloat16 (the same numbers in half the bytes), otherwise float32."""
        stored = {self.store.layout(site).codec.dtype for site in self.site_names}
        travel = travel or device.type == "cuda"
        return "bfloat16" if travel and stored == {"bfloat16"} else "float32"

    @contextmanager
    def batches(
        self,
        state: dict[str, int] | None,
        device: torch.device,
        blocks: RowBlocks | None = None,
    ) -> Iterator["Batches"]:
        """The run's endless stream of scaled batches.

        Args:
            state: position to start from; None for the start.
            device: where the batches go.
            blocks: the ranks' rows, if ranks share rows. Each rank reads its own rows and sends
                them to the others, if the batch splits into equal blocks; otherwise each reads all.
        """
        settings = self.settings
        if blocks is not None and settings.batch % blocks.size:
            blocks = None
        rank, world = (0, 1) if blocks is None else (blocks.rank, blocks.size)
        sites = self.site_names
        stream = self.store.stream(
            sites if len(sites) > 1 else sites[0],
            batch_rows=settings.batch // world,
            seed=settings.stream_seed,
            shuffle_rows=settings.shuffle_rows,
            state=state,
            rank=rank,
            world=world,
            prefetch=settings.prefetch,
            dtype=self.stream_dtype(device, blocks is not None),
        )
        try:
            yield Batches(self, stream, device, blocks)
        finally:
            stream.close()


class Batches:
    """Scaled (input, target) batches on a device, float32; `state()` and `waiting_s` are the
    stream's."""

    def __init__(
        self,
        source: TrainingRows,
        stream: Any,
        device: torch.device,
        blocks: RowBlocks | None = None,
    ):
        self._source, self._stream, self._device = source, stream, device
        self._blocks = blocks

    def read(self) -> Any:
        """The rows that the stream gives next; `whole` and `whole_raw` make a batch of them.

        Sends nothing: if reading fails on one rank, it must be able to tell the others.
        """
        return next(self._stream)

    def whole(self, rows: Any) -> Pair:
        """A batch of all ranks' rows, divided by C."""
        x, target = self.whole_raw(rows)
        source = self._source
        scaled = x / source.normaliser
        return scaled, scaled if target is x else target / source.target_normaliser

    def whole_raw(self, rows: Any) -> Pair:
        """A batch of all ranks' rows in raw units."""
        settings = self._source.settings
        if settings.target_site is None:
            x = self._brought(rows)
            return x, x
        return self._brought(rows[settings.site]), self._brought(rows[settings.target_site])

    def _brought(self, rows: Tensor) -> Tensor:
        """All ranks' rows on the device, as float32."""
        # The copy may still run: the stream does not reuse a page-locked batch before it has ended.
        here = rows.to(self._device, non_blocking=True)
        if self._blocks is not None:
            here = self._blocks.joined(here, self._source.settings.batch)
        return here.float()

    def state(self) -> dict[str, int]:
        """Position after the batches taken so far."""
        return self._stream.state()

    @property
    def waiting_s(self) -> float:
        """Seconds spent waiting for rows so far."""
        return self._stream.waiting_s


def _variance(store: ActivationStore, site: str) -> float:
    """E‖x−E x‖² of a site, raw; ValueError for one that is constant."""
    mean, mean_square = store.mean(site), store.normaliser(site) ** 2
    variance = mean_square - float(mean @ mean)
    if is_constant(variance, mean_square):
        raise ValueError(
            f"site {site} of store {store.url} must vary, got the same row everywhere (norm "
            f"{mean_square**0.5:.4g}); harvest another site"
        )
    return variance


def normaliser_kind(settings: TrainSettings) -> str:
    """Which C is used, "measured" or "sqrt_width". √n is the report's choice for transcoders, whose
    input is RMS-normalised."""
    if settings.normaliser != "auto":
        return settings.normaliser
    return "measured" if settings.target_site is None else "sqrt_width"


def _normaliser(store: ActivationStore, site: str, settings: TrainSettings) -> float:
    """C of a site; ValueError if x/C is too small or too large for a float32 step."""
    measured = float(store.normaliser(site))
    if normaliser_kind(settings) == "measured":
        return measured
    C = store.sites[site] ** 0.5
    low, high = SCALED_SQUARES
    if not low <= (measured / C) ** 2 <= high:
        raise ValueError(
            f"normaliser must bring E‖x/C‖² near 1, got {(measured / C) ** 2:.3g} with C = √n at "
            f"site {site} of store {store.url}; pass --set normaliser=measured"
        )
    return C
