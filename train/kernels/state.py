"""What a training step reads and writes: parameters and second moments.

Owns the layout of these tensors, their initial values and their form in a checkpoint. Computes no
gradient: see `reference`, `cpu` and `triton`. Imports torch only.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

_DRAWN_ROWS = 1024
"""Latents whose initial weights are drawn at once."""


@dataclass
class Parameters:
    """One JumpReLU SAE (or transcoder) in scaled units, all float32; also the shape of its second
    moments.

    Attributes:
        W_enc: [d_in, d_sae], a transposed view of contiguous [d_sae, d_in] storage: a latent's
            encoder is one row.
        b_enc: [d_sae].
        W_dec: [d_sae, d_out], rows of unit norm.
        b_dec: [d_out].
        theta: [d_sae], the thresholds themselves, whichever form of them is trained.
        W_skip: [d_in, d_out], a skip transcoder's affine path, or None.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    theta: Tensor
    W_skip: Tensor | None = None

    def items(self) -> list[tuple[str, Tensor]]:
        """(name, tensor) of every tensor there is, in a fixed order."""
        named = [(item.name, getattr(self, item.name)) for item in fields(self)]
        return [(name, tensor) for name, tensor in named if tensor is not None]

    @property
    def d_in(self) -> int:
        """Width of the encoder's input."""
        return self.W_enc.shape[0]

    @property
    def d_out(self) -> int:
        """Width of the reconstruction; equals d_in for an SAE."""
        return self.W_dec.shape[1]

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.W_dec.shape[0]

    def zeros_like(self) -> "Parameters":
        """Zeros of the same shapes, layouts and device."""
        return Parameters(**{name: torch.zeros_like(tensor) for name, tensor in self.items()})

    def clone(self) -> "Parameters":
        """A deep copy that keeps W_enc's layout."""
        return Parameters(**{name: tensor.clone() for name, tensor in self.items()})


@dataclass
class TrainState:
    """All that a run carries from step to step besides its data: `step` updates it in place.

    Attributes:
        parameters: see `Parameters`.
        second_moments: Adam's v of every parameter (of log θ where log θ is trained).
        last_update: int64 [d_sae], the step at which each latent's moments were last brought up to
            date. A latent that has had zero gradient since then owes them a factor beta2 **
            (n_updates - last_update); see `settle`.
        n_updates: updates made so far.
        entries_per_row: mean number of latents with z > θ − ε/2 in a row of the last step; negative
            before the first. It decides the path of the next step, so it is part of the state: a
            resumed run takes the same path as an uninterrupted one.
        scratch: what a backend keeps between steps and can make again at any time; never saved.
    """

    parameters: Parameters
    second_moments: Parameters
    last_update: Tensor
    n_updates: int = 0
    entries_per_row: float = -1.0
    scratch: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def fresh(cls, parameters: Parameters) -> "TrainState":
        """The state before the first update of `parameters`."""
        last_update = torch.zeros_like(parameters.theta, dtype=torch.int64)
        return cls(parameters, parameters.zeros_like(), last_update)

    def tensors(self) -> dict[str, Tensor]:
        """The state as contiguous named tensors for safetensors; shares the state's memory.

        W_enc is stored as its rows, `*.W_enc_rows` [d_sae, d_in], which is its layout in memory.
        """
        named: dict[str, Tensor] = {}
        for group, values in (
            ("parameters", self.parameters),
            ("second_moments", self.second_moments),
        ):
            for name, tensor in values.items():
                if name == "W_enc":
                    named[f"{group}.W_enc_rows"] = tensor.t().contiguous()
                else:
                    named[f"{group}.{name}"] = tensor.contiguous()
        named["last_update"] = self.last_update
        named["n_updates"] = torch.tensor(self.n_updates, dtype=torch.int64)
        named["density"] = torch.tensor(self.entries_per_row, dtype=torch.float64)
        return named

    @classmethod
    def from_tensors(cls, named: dict[str, Tensor]) -> "TrainState":
        """The inverse of `tensors`; takes the tensors as they are, without a copy.

        Raises:
            ValueError: a tensor is missing, or there is one that does not belong to a state.
        """
        groups: dict[str, dict[str, Tensor]] = {"parameters": {}, "second_moments": {}}
        rest = dict(named)
        for key in named:
            group, _, name = key.partition(".")
            if group in groups and name:
                tensor = rest.pop(key)
                groups[group][name.removesuffix("_rows")] = (
                    tensor.t() if name == "W_enc_rows" else tensor
                )
        try:
            state = cls(
                Parameters(**groups["parameters"]),
                Parameters(**groups["second_moments"]),
                rest.pop("last_update"),
                int(rest.pop("n_updates")),
                float(rest.pop("density")),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"checkpoint must hold a whole training state; {error}") from error
        if rest:
            raise ValueError(f"checkpoint must hold a training state only, got {sorted(rest)}")
        return state

    def settle(self, beta2: float) -> None:
        """Applies to every latent's second moments the decays that it has missed, in place.

        The dense step decays all moments at every step, the sparse ones only when a latent has
        entries. After this call both hold the same numbers (to float32 rounding).
        """
        # v ← β2^(n_updates − last_update)·v
        missed = self.n_updates - self.last_update
        if not bool(missed.any()):
            return
        factor = torch.pow(beta2, missed.double()).float()
        moments = self.second_moments
        for tensor in (moments.b_enc, moments.theta):
            tensor.mul_(factor)
        moments.W_enc.mul_(factor)
        moments.W_dec.mul_(factor[:, None])
        self.last_update.fill_(self.n_updates)


def initial_parameters(
    d_in: int,
    d_out: int,
    d_sae: int,
    theta: float = 1e-3,
    seed: int = 0,
    transcoder: bool = False,
    skip: bool = False,
    device: str | torch.device = "cpu",
    mine: slice | None = None,
) -> Parameters:
    """Parameters before training (Gemma Scope report, section 3).

    W_dec He-uniform, then rows scaled to unit norm; W_enc its transpose for an SAE, drawn the same
    way but independently for a transcoder; biases zero; θ constant; W_skip zero. Drawn on the CPU,
    so every device starts from the same numbers.

    Args:
        d_in, d_out, d_sae: widths of input and output, and number of latents of the whole SAE.
        theta: the initial threshold of every latent, in scaled units.
        seed: of the draws.
        transcoder: whether W_enc is drawn independently; needed if d_out differs from d_in.
        skip: whether there is a W_skip.
        device: where the tensors are put.
        mine: latents to keep, by default all. The others are drawn too, so that a latent's numbers
            do not depend on which are kept.

    Raises:
        ValueError: a width is not positive, θ is not positive, or an SAE's d_in and d_out differ.
    """
    for name, value in (("d_in", d_in), ("d_out", d_out), ("d_sae", d_sae), ("theta", theta)):
        if value <= 0:
            raise ValueError(f"{name} must be above 0, got {value}")
    if not transcoder and d_in != d_out:
        raise ValueError(f"d_out must be d_in ({d_in}) for an SAE, got {d_out}; set transcoder")
    generator, mine = torch.Generator().manual_seed(seed), mine or slice(0, d_sae)
    W_dec = _unit_rows(d_sae, d_out, generator, mine)
    rows = _unit_rows(d_sae, d_in, generator, mine) if transcoder else W_dec.clone()
    return Parameters(
        W_enc=rows.to(device).t(),
        b_enc=torch.zeros(len(W_dec), device=device),
        W_dec=W_dec.to(device),
        b_dec=torch.zeros(d_out, device=device),
        theta=torch.full((len(W_dec),), theta, device=device),
        W_skip=torch.zeros(d_in, d_out, device=device) if skip else None,
    )


def bytes_needed(
    d_in: int,
    d_out: int,
    d_sae: int,
    batch_rows: int,
    skip: bool = False,
    backend: str = "reference",
) -> int:
    """Estimate of the memory in bytes that a run's state and its dense (largest) step take.

    Counts float32 parameters, one second moment each (β1 = 0 needs no first), and the gradients
    and intermediates of a dense step with batch_rows rows.
    """
    owned, shared = d_sae * (d_in + d_out + 2), d_out + (d_in * d_out if skip else 0)
    if backend == "reference":
        # Four matrices [batch_rows, d_sae].
        gradients, rows = owned, 4 * d_sae + 4 * (d_in + d_out)
    else:
        # z, the lists of entries, one shard at a time (at most an eighth of the latents), and the
        # [batch_rows, d] sums of its tree.
        gradients, rows = owned // 8, 3 * d_sae + 12 * (d_in + d_out)
    return 4 * (2 * owned + gradients + 3 * shared + batch_rows * rows) + 8 * d_sae


def _unit_rows(n_rows: int, width: int, generator: torch.Generator, mine: slice) -> Tensor:
    """The rows `mine` of He-uniform ones (bound √(6/fan_in)) scaled to unit norm; drawn in
    blocks, which give the same numbers as a single draw."""
    bound = math.sqrt(6 / width)
    kept = torch.empty(mine.stop - mine.start, width)
    for start in range(0, n_rows, _DRAWN_ROWS):
        stop = min(start + _DRAWN_ROWS, n_rows)
        rows = torch.rand(stop - start, width, generator=generator).mul_(2 * bound).sub_(bound)
        first, last = max(start, mine.start), min(stop, mine.stop)
        if first < last:
            rows = rows[first - start : last - start]
            kept[first - mine.start : last - mine.start] = rows.div_(rows.norm(dim=1, keepdim=True))
    return kept
