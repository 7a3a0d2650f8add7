"""One SAE in training: its state, its updates, its checkpoints and its result.

Owns everything that belongs to a single member of a sweep. Which batch comes when, and when to
stop, is `trainer`'s. A member takes batches and nothing else from outside, so training it alone or
beside others gives the same bits.
"""

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .checkpoint import Checkpoint, Checkpoints
from .kernels import Parameters, StepResult, StepSettings, TrainState, initial_parameters
from .kernels import step as kernel_step
from .loggers import open_loggers
from .measure import measure
from .metrics import Means, append_line, count_idle_rows, cut_after, theta_quantiles
from .schedules import learning_rate, sparsity_share
from .settings import TrainSettings
from .source import Source
from .steering import Steering


class DivergedError(ValueError):
    """A member's loss is not finite; nothing was updated."""


class Member:
    """A TrainSettings being carried out.

    Attributes:
        step: updates done, which is also the index of the batch wanted next.
        stream_state: position of the stream after those batches; None at the start.
        line: the metrics line that the last update wrote, if it wrote one.
    """

    def __init__(self, settings: TrainSettings, source: Source, device: torch.device):
        """Starts from the newest checkpoint of the run, or from fresh parameters."""
        self.settings, self.source, self.device = settings, source, device
        self.checkpoints = Checkpoints(
            settings.checkpoint_url, settings.keep_checkpoints, settings.checkpoint_options
        )
        self.checkpoints.sweep()
        self.steering = Steering.start(settings) if settings.target_l0 is not None else None
        self.step, self.stream_state, self.line = 0, None, None
        self.rows_idle = torch.zeros(settings.width, dtype=torch.int64, device=device)
        self.firing = torch.zeros(settings.width, device=device)
        self._means = Means()
        checkpoint = self.checkpoints.newest(device)
        if checkpoint is None:
            self.state = TrainState.fresh(self._fresh_parameters())
        else:
            self._restore(checkpoint)
        cut_after(settings.out, self.step if self.done else self._means.since)
        self._loggers = open_loggers(settings, self.step)
        self._saved_step, self._saved_at = self.step, time.monotonic()

    @property
    def done(self) -> bool:
        """Whether all updates are done."""
        return self.step >= self.settings.steps

    def update(
        self, x: Tensor, target: Tensor, stream_state: dict[str, int], waited_s: float
    ) -> StepResult:
        """One update on a scaled batch; writes a metrics line and a checkpoint when they are due.

        Args:
            x: scaled input rows.
            target: scaled rows to reconstruct; x itself for an SAE.
            stream_state: the stream's position after this batch.
            waited_s: seconds that were spent waiting for this batch.

        Raises:
            DivergedError: the loss is not finite; parameters, moments and checkpoints are as
                before.
        """
        price = self._price()
        now = self._step_settings(price)
        result = kernel_step(self.state, x, target, now, backend=self.settings.backend)
        if not result.finite:
            raise DivergedError(
                f"loss of {self.settings.out} must be finite, got NaN or infinity at update "
                f"{self.step}; lower lr ({self.settings.lr}); last good checkpoint: "
                f"{self.checkpoints.name_of_newest()}"
            )
        n_rows = x.shape[0]
        self._count(result, n_rows, now)
        fvu = result.mse / self.source.variance
        self._means.add(n_rows, waited_s, loss=result.loss, mse=result.mse, fvu=fvu, l0=result.l0)
        self.step, self.stream_state, self._path = self.step + 1, stream_state, result.path
        due = self.step % self.settings.log_every == 0
        self.line = self._write_line(now.lr, price) if due or self.done else None
        if due:  # a run's last line comes early, and a longer run must not know of it
            self._means = Means(self.step)
        if self._checkpoint_due():
            self.save()
        return result

    def save(self) -> None:
        """Writes a checkpoint of this moment."""
        record = {
            "step": self.step,
            "stream": self.stream_state,
            "settings": self.settings.identity(),
            "store": self.source.identity(),
            "steering": self.steering.record() if self.steering else None,
            "means": self._means.record(),
        }
        tensors = self.state.tensors() | {"rows_idle": self.rows_idle, "firing": self.firing}
        self.checkpoints.save(Checkpoint(self.step, tensors, record))
        self._saved_step, self._saved_at = self.step, time.monotonic()

    def save_unless_saved(self) -> None:
        """Writes a checkpoint unless this very step has one; what a stop signal asks for."""
        if self._saved_step != self.step:
            self.save()

    def close(self) -> None:
        """Flushes and closes the loggers; called when the member leaves the run for any reason."""
        for logger in self._loggers:
            logger.close()
        self._loggers = []

    def finish(self) -> None:
        """Measures the trained SAE and writes sae.safetensors and config.json; lets the state
        go.
        """
        if self.stream_state is None:
            raise RuntimeError("a member is finished after its last update, not before the first")
        parameters = self.state.parameters
        del self.state  # the moments' memory is what folding needs
        sae = measure(parameters, self.settings, self.source, self.stream_state)
        last = self.steering.sparsity if self.steering else self.settings.sparsity
        sae.config = sae.config.model_copy(update={"sparsity": last})
        sae.save(self.settings.out, self.settings.model_dump(mode="json"))

    def _fresh_parameters(self) -> Parameters:
        """The report's initialisation from the settings' seed."""
        settings, source = self.settings, self.source
        return initial_parameters(
            source.d_in,
            source.d_out,
            settings.width,
            theta=settings.theta_start,
            seed=settings.seed,
            transcoder=settings.target_site is not None,
            skip=settings.skip,
            device=self.device,
        )

    def _checkpoint_due(self) -> bool:
        """Whether the settings' steps or minutes have passed, or training is over."""
        minutes = self.settings.checkpoint_minutes
        late = minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes
        return late or self.done or self.step % self.settings.checkpoint_every == 0

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Takes everything from a checkpoint of this run (`run_folder` has made sure that it
        is).
        """
        record, tensors = checkpoint.record, dict(checkpoint.tensors)
        self.rows_idle, self.firing = tensors.pop("rows_idle"), tensors.pop("firing")
        self.state = TrainState.from_tensors(tensors)
        self.step, self.stream_state = record["step"], record["stream"]
        self._means = Means(**record["means"])
        if self.steering is not None:
            self.steering = replace(self.steering, **record["steering"])

    def _price(self) -> float:
        """λ of the next update; steering may bring it below 0."""
        sparsity = self.steering.sparsity if self.steering else self.settings.sparsity
        return sparsity * sparsity_share(self.settings, self.step)

    def _step_settings(self, price: float) -> StepSettings:
        """The numbers of the next update."""
        settings = self.settings
        return StepSettings(
            lr=learning_rate(settings, self.step),
            sparsity=abs(price),
            bandwidth=settings.bandwidth,
            beta2=settings.beta2,
            eps=settings.adam_eps,
            theta_form=settings.theta_form,
            pre_bias=settings.target_site is None,
            latent_weight=self._latent_weight(price),
            penalty=settings.penalty,
            target_l0=settings.target_l0,
            quadratic_coefficient=settings.quadratic_coefficient,
            encoder=settings.encoder,
        )

    def _latent_weight(self, price: float) -> Tensor | None:
        """Extra price of single latents in units of abs(λ).

        frequency_penalty where the running share of rows is above its limit; below a λ of 0, which
        the step does not know, −2 for all of them: 1 − 2 = −1.
        """
        weight = None
        if self.settings.frequency_penalty > 0:
            often = self.firing > self.settings.frequency_limit
            weight = self.settings.frequency_penalty * often.float()
        if price < 0:
            weight = (torch.zeros_like(self.firing) if weight is None else weight) - 2
        return weight

    def _count(self, result: StepResult, n_rows: int, now: StepSettings) -> None:
        """Updates the counters that outlive a batch."""
        count_idle_rows(self.rows_idle, result.fired, n_rows)
        # An exponential mean over about a hundred batches: long beside a batch, short beside a run.
        self.firing.lerp_(result.fired.to(self.firing.dtype) / n_rows, 0.01)
        if self.steering is not None and self.step >= self.settings.sparsity_warmup_steps:
            self.steering.update(result.l0, now.lr)

    def _write_line(self, lr: float, price: float) -> dict[str, Any]:
        """Writes one line of metrics.jsonl and returns it."""
        dead = (self.rows_idle >= self.settings.dead_after_rows).float().mean()
        line: dict[str, Any] = {"step": self.step, "rows": self.step * self.settings.batch}
        line |= self._means.line()
        line |= {"dead_share": float(dead), "lr": lr, "sparsity": price}
        line |= {"path": self._path} | theta_quantiles(self.state.parameters.theta)
        append_line(self.settings.out, line)
        for logger in self._loggers:
            logger.write(line)
        return line
