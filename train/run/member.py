"""One SAE in training: its state, its updates, its checkpoints and its result.

Owns everything that belongs to a single member of a sweep. `trainer` chooses the batches and when
to stop. A member takes batches and nothing else from outside, so training it alone or beside others
gives the same bits.
"""

import json
import sys
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...foreign import one_line, validated
from ...settings import dump
from ..kernels import Parameters, StepResult, StepSettings, TrainState, initial_parameters
from ..kernels import step as kernel_step
from ..ranks.agreement import check_equal
from ..ranks.world import World
from ..sae.config import SAEConfig
from ..sae.files import check_tensors
from ..saved.checkpoint import Checkpoint, Checkpoints
from ..saved.loggers import Logger, open_loggers
from ..saved.metrics import (
    Means,
    append_line,
    count_idle_rows,
    cut_after,
    keep,
    take_kept,
    theta_quantiles,
)
from ..saved.records import CheckpointRecord, Used
from ..saved.run_folder import write_config
from ..saved.weights import write_weights
from ..settings import TrainSettings
from .measure import measure
from .rows import TrainingRows, normaliser_kind
from .schedules import sparsity_share, step_settings
from .steering import Steering


class DivergedError(ValueError):
    """A member's loss is not finite; nothing was updated."""


class Member:
    """One SAE in training, as its TrainSettings describe it.

    Attributes:
        step: updates done, which is also the index of the next batch.
        stream_state: position of the stream after the last batch; None at the start.
        line: the metrics line that the last update wrote, if it wrote one.
        loss: of the last update; 0 before the first.
    """

    def __init__(
        self,
        settings: TrainSettings,
        source: TrainingRows,
        device: torch.device,
        world: World,
        begin_at: int | None,
    ):
        """Starts from the checkpoint of an update, or from fresh parameters; with the latents of
        this rank's share."""
        self.settings, self.source, self.device, self.world = settings, source, device, world
        self.share = world.share(settings.width)
        self.checkpoints = Checkpoints(settings.checkpoint_place, settings.keep_checkpoints)
        self.steering = Steering.start(settings) if settings.target_l0 is not None else None
        self.step, self.stream_state, self.line, self.loss = 0, None, None, 0.0
        self.rows_idle = torch.zeros(self.share.n_latents, dtype=torch.int64, device=device)
        self.firing = torch.zeros(self.share.n_latents, device=device)
        self._means, self._used = Means(), None
        if begin_at is None:
            self.state = TrainState.fresh(self._fresh_parameters())
        else:
            self._restore(self.checkpoints.load(begin_at, device, self.share))
        self._loggers = self._opened_files() if world.is_first else []
        self._saved_step, self._saved_at = self.step, time.monotonic()

    @property
    def done(self) -> bool:
        """Whether all updates are done."""
        return self.step >= self.settings.steps

    def _opened_files(self) -> list[Logger]:
        """Brings the run's files to the state of this update and opens the loggers."""
        self.checkpoints.sweep()
        if self.step:
            take_kept(self.settings, self.checkpoints)
        cut_after(self.settings.out, self.step if self.done else self._means.since)
        return open_loggers(self.settings, self.step)

    def update(
        self,
        x: Tensor,
        target: Tensor,
        stream_state: dict[str, int],
        waited_s: float,
        late: bool,
    ) -> StepResult:
        """One update on a scaled batch; writes a metrics line and a checkpoint when they are due.

        Args:
            x: scaled input rows.
            target: scaled rows to reconstruct; x itself for an SAE.
            stream_state: the stream's position after this batch.
            waited_s: seconds that were spent waiting for this batch.
            late: whether a checkpoint is due by the clock.

        Raises:
            DivergedError: the loss is not finite; parameters, moments and checkpoints are as
                before.
        """
        sparsity = self._sparsity()
        now = step_settings(self.settings, self.step, sparsity, self.firing)
        result = kernel_step(self.state, x, target, now, self.settings.backend, self.share)
        if not result.finite:
            raise self._diverged("got NaN or infinity")
        n_rows = x.shape[0]
        self._count(result, n_rows, now)
        fvu = result.mse / self.source.variance
        self._means.add(n_rows, waited_s, loss=result.loss, mse=result.mse, fvu=fvu, l0=result.l0)
        self.step, self.stream_state, self.loss = self.step + 1, stream_state, result.loss
        self._used = Used(lr=now.lr, sparsity=sparsity, path=result.path)
        due = self.step % self.settings.log_every == 0
        self.line = self._write_line(self._used) if due or self.done else None
        if due:  # not for a run's last line, which may come early: a longer run does not have it
            self._means = Means(self.step)
        if late or self.done or self.step % self.settings.checkpoint_every == 0:
            self.save()
        return result

    @property
    def late(self) -> bool:
        """Whether the settings' minutes have passed since the last checkpoint."""
        minutes = self.settings.checkpoint_minutes
        return minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes

    def save(self) -> None:
        """Writes a checkpoint of the last update, after the metrics up to it are on the disk.

        Raises:
            DivergedError: a parameter is not finite; the older checkpoints stay as they are.
        """
        bad = [(~tensor.isfinite()).any() for _, tensor in self.state.parameters.items()]
        if int(self.share.count(torch.stack(bad).sum())):
            raise self._diverged("got parameters with NaN or infinity")
        if self._used is None:
            raise RuntimeError("a checkpoint is written after an update")
        record = {
            "step": self.step,
            "stream": self.stream_state,
            "settings": self.settings.identity(),
            "store": self.source.identity(),
            "steering": self.steering.record() if self.steering else None,
            "means": self._means.record(),
            "used": self._used.model_dump(),
        }
        tensors = self.state.tensors() | {"rows_idle": self.rows_idle, "firing": self.firing}
        checkpoint = Checkpoint(self.step, tensors, record)
        on_all = tensors if self.share.is_whole else checkpoint.of_all()
        check_equal(self.world, self.loss, on_all)
        if not self.share.is_whole:
            self.checkpoints.save_part(checkpoint, self.share)
            self.world.together()
        if self.world.is_first:
            keep(self.settings, self.checkpoints)
            self.checkpoints.save(checkpoint, self.world.shares(self.settings.width))
        self.world.together()  # no rank goes on before it is written
        self._saved_step, self._saved_at = self.step, time.monotonic()

    def save_unless_saved(self) -> None:
        """Writes a checkpoint unless the last update has one."""
        if self._saved_step != self.step:
            self.save()

    def close(self) -> None:
        """Flushes and closes the loggers; called when the member leaves the run for any reason."""
        for logger in self._loggers:
            logger.close()
        self._loggers = []

    def finish(self) -> None:
        """Measures the trained SAE, then writes sae.safetensors and config.json. The training state
        is gone afterwards.

        Raises:
            DivergedError: what it reconstructs is not finite; nothing was written.
        """
        if self.stream_state is None or self._used is None:
            raise RuntimeError("a member is finished after its last update, not before the first")
        parameters, out, source = self.state.parameters, self.settings.out, self.source
        del self.state  # the moments' memory is what folding needs
        try:
            config, tensors = measure(
                parameters, self.settings, source, self.stream_state, self.share
            )
        except OverflowError as error:
            raise self._diverged(str(error)) from error
        del parameters
        config = config.model_copy(update={"sparsity": self._used.sparsity})
        if config.missed and self.world.is_first:
            print(f"{out}: L0 {config.l0:.1f} is {config.missed}", file=sys.stderr)
        write_weights(out, tensors, self.share, self.world)
        if self.world.is_first:
            used = self._everything_used(self._used)
            write_config(self.settings, json.loads(dump(config)), used)
        self.world.together()

    def _fresh_parameters(self) -> Parameters:
        """The report's initialisation from the settings' seed."""
        settings, source = self.settings, self.source
        parameters = initial_parameters(
            source.d_in,
            source.d_out,
            settings.width,
            theta=settings.theta_start,
            seed=settings.seed,
            transcoder=settings.target_site is not None,
            skip=settings.skip,
            device=self.device,
            mine=self.share.mine,
        )
        if settings.b_dec_start == "mean":
            parameters.b_dec.copy_(source.target_mean())
        return parameters

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Takes the whole state from a checkpoint; `run_folder` has checked that it is this
        run's."""
        where = f"checkpoint {self.checkpoints.where(checkpoint.step)}"
        record = validated(CheckpointRecord, checkpoint.record, where)
        tensors = dict(checkpoint.tensors)
        try:
            self.rows_idle, self.firing = tensors.pop("rows_idle"), tensors.pop("firing")
            self.state = TrainState.from_tensors(tensors)
            self._check_state()
        except (ValueError, KeyError) as error:
            raise ValueError(f"{where} must be of this run: {one_line(error)}") from error
        self.step, self.stream_state, self._used = record.step, record.stream, record.used
        self._means = Means(**record.means.model_dump())
        if self.steering is not None and record.steering is not None:
            self.steering = replace(self.steering, **record.steering.model_dump())

    def _check_state(self) -> None:
        """Raises ValueError for tensors of other shapes than the run's."""
        source, width = self.source, self.share.n_latents
        config = SAEConfig(d_in=source.d_in, d_sae=width, d_out=source.d_out)
        for group in (self.state.parameters, self.state.second_moments):
            check_tensors(dict(group.items()), config)
        for tensor in (self.rows_idle, self.firing, self.state.last_update):
            if tuple(tensor.shape) != (width,):
                raise ValueError(f"counters must be of {width} latents, got {tuple(tensor.shape)}")

    def _diverged(self, what: str) -> DivergedError:
        """The error of a member that cannot go on."""
        return DivergedError(
            f"loss of {self.settings.out} must be finite, {what} at update {self.step}; lower lr "
            f"({self.settings.lr}); last good checkpoint: {self.checkpoints.name_of_newest()}"
        )

    def _everything_used(self, used: Used) -> dict[str, Any]:
        """What settings such as "auto" came to in the last update."""
        device = self.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return (
            used.model_dump()
            | {
                "backend": used.backend,
                "encoder": used.encoder,
                "device": name,
                "threads": torch.get_num_threads(),
                "normaliser": normaliser_kind(self.settings),
                "torch": torch.__version__,
            }
            | self.world.facts()
        )

    def _sparsity(self) -> float:
        """λ of the next update; steering may bring it below 0."""
        sparsity = self.steering.sparsity if self.steering else self.settings.sparsity
        return sparsity * sparsity_share(self.settings, self.step)

    def _count(self, result: StepResult, n_rows: int, now: StepSettings) -> None:
        """Updates the counters that outlive a batch."""
        count_idle_rows(self.rows_idle, result.fired, n_rows)
        # An exponential mean over about a hundred batches: long beside a batch, short beside a run.
        self.firing.lerp_(result.fired.to(self.firing.dtype) / n_rows, 0.01)
        if self.steering is not None and self.step >= self.settings.sparsity_warmup_steps:
            self.steering.update(result.l0, now.lr)

    def _write_line(self, used: Used) -> dict[str, Any] | None:
        """Writes one line of metrics.jsonl and returns it; on the first rank."""
        settings = self.settings
        n_dead = self.share.count((self.rows_idle >= settings.dead_after_rows).sum())
        theta = self.world.collected(self.state.parameters.theta, self.share)
        if theta is None:
            return None
        line: dict[str, Any] = {"step": self.step, "rows": self.step * settings.batch}
        line |= self._means.line()
        line |= {"dead_share": float(n_dead.float() / settings.width)} | used.model_dump()
        line |= theta_quantiles(theta)
        append_line(settings.out, line)
        for logger in self._loggers:
            logger.write(line)
        return line
