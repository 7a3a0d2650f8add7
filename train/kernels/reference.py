"""The step by dense autograd in float32: the meaning of a step, slow and plain. Runs on any device.

The two pseudo-gradients of arXiv 2407.14435 (equations 11 and 12) with the rectangle kernel
K(u) = 1[|u| < 1/2]:

    through JumpReLU  f = z·1[z > θ]:   dz = 1[z > θ]·g        dθ += −(θ/ε)·K((z − θ)/ε)·g
    through the L0    s = 1[z > θ]:     dz = 0                 dθ += −(1/ε)·K((z − θ)/ε)·g

with g the gradient of the loss by f or s, summed over rows. Autograd does the rest. `cpu` and
`triton` compute the same step without the dense intermediates.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .result import StepResult
from .settings import StepSettings
from .shards import Share
from .state import Parameters, TrainState

PATHS = ("dense",)


def step(
    state: TrainState,
    x: Tensor,
    target: Tensor,
    settings: StepSettings,
    share: Share,
    path: str = "",
) -> StepResult:
    """One dense step; see `kernels.step`. There is one path only, and it needs all latents."""
    del path
    if not share.is_whole:
        raise ValueError("backend reference must have all latents; choose cpu or triton for ranks")
    result, gradients, entries_per_row = losses_and_gradients(state.parameters, x, target, settings)
    if result.finite:
        state.settle(settings.beta2)
        adam(state, gradients, settings)
        state.entries_per_row = entries_per_row
    return result


def losses_and_gradients(
    parameters: Parameters, x: Tensor, target: Tensor, settings: StepSettings
) -> tuple[StepResult, Parameters, float]:
    """The step's report, the loss's gradient by every parameter, and the mean number of entries
    (z > θ − ε/2) in a row.

    The gradient by θ is by θ itself, also where log θ is trained. That by W_dec is not projected.
    """
    leaves = Parameters(
        **{name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
    )
    with torch.enable_grad():
        z = (x - leaves.b_dec if settings.pre_bias else x) @ leaves.W_enc + leaves.b_enc
        f = _jump_relu(z, leaves.theta, settings.bandwidth)
        active = _is_active(z, leaves.theta, settings.bandwidth)
        x_hat = f @ leaves.W_dec + leaves.b_dec
        if leaves.W_skip is not None:
            x_hat = x_hat + x @ leaves.W_skip
        mse = (target - x_hat).square().sum(1).mean()
        l0 = active.sum(1)
        penalty = _row_penalty(l0, active, settings).mean()
        loss = mse + penalty
        gradients = torch.autograd.grad(loss, [tensor for _, tensor in leaves.items()])
    value = float(loss.detach())
    result = StepResult(
        loss=value,
        mse=float(mse.detach()),
        penalty=float(penalty.detach()),
        l0=float(l0.detach().mean()),
        fired=active.detach().sum(0).to(torch.int64),
        finite=value - value == 0.0,
        path="reference/dense",
    )
    names = [name for name, _ in leaves.items()]
    near = z.detach() - leaves.theta.detach() > -settings.bandwidth / 2
    return result, Parameters(**dict(zip(names, gradients, strict=True))), _per_row(near)


def adam(state: TrainState, gradients: Parameters, settings: StepSettings) -> None:
    """Exact Adam with β1 = 0 on every parameter, in place; counts the update."""
    state.n_updates += 1
    state.last_update.fill_(state.n_updates)
    parameters, moments = dict(state.parameters.items()), dict(state.second_moments.items())
    move(parameters, moments, dict(gradients.items()), settings, state.n_updates)


def move(
    parameters: dict[str, Tensor],
    moments: dict[str, Tensor],
    gradients: dict[str, Tensor],
    settings: StepSettings,
    now: int,
) -> None:
    """Adam with β1 = 0 on parameters by name, in place. W_dec's gradient is projected before and
    its rows are scaled to unit norm after.

    Args:
        parameters: updated.
        moments: Adam's second moments v by the same names, updated.
        gradients: by the same names; left as they are.
        settings: lr, β2, eps and the form of θ.
        now: number t of this update in the whole run, from 1.
    """
    # v ← β2·v + (1 − β2)·g²;  p ← p − lr·g / (√(v / (1 − β2^t)) + eps)
    correction = 1 - settings.beta2**now
    for name, tensor in parameters.items():
        gradient, moment = gradients[name], moments[name]
        if name == "W_dec":
            # g ← g − (g·w)·w for each unit row w
            gradient = gradient - (gradient * tensor).sum(1, keepdim=True) * tensor
        log_theta = name == "theta" and settings.theta_form == "log"
        if log_theta:
            # dL/d log θ = θ·dL/dθ
            gradient = gradient * tensor
        moment.mul_(settings.beta2).addcmul_(gradient, gradient, value=1 - settings.beta2)
        change = gradient / ((moment / correction).sqrt_() + settings.eps)
        if log_theta:
            # log θ ← log θ − lr·change
            tensor.mul_(torch.exp(-settings.lr * change))
        else:
            tensor.sub_(change, alpha=settings.lr)
        if name == "theta" and not log_theta:
            tensor.clamp_(min=settings.theta_floor)
        if name == "W_dec":
            tensor.div_(tensor.norm(dim=1, keepdim=True))


def _jump_relu(z: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
    """`_JumpReLU.apply` with a return type for type checkers."""
    out: Any = _JumpReLU.apply(z, theta, bandwidth)
    return out


def _is_active(z: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
    """`_IsActive.apply` with a return type for type checkers."""
    out: Any = _IsActive.apply(z, theta, bandwidth)
    return out


def _row_penalty(l0: Tensor, active: Tensor, settings: StepSettings) -> Tensor:
    """The L0 penalty of each row, [batch]."""
    if settings.penalty == "quadratic":
        assert settings.target_l0 is not None
        rows = settings.coefficient * (l0 - settings.target_l0).square()
    else:
        rows = l0
    if settings.latent_weight is not None:
        rows = rows + active @ settings.latent_weight
    return settings.sparsity * rows


def _per_row(entries: Tensor) -> float:
    """Mean number of true entries in a row."""
    return float(entries.sum()) / max(entries.shape[0], 1)


def _kernel(z: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
    """K((z − θ)/ε), the open window of width ε around θ, as 0 or 1."""
    return ((z - theta).abs() < bandwidth / 2).to(z.dtype)


class _JumpReLU(Function):
    """f = z·1[z > θ] with the pseudo-gradient for θ."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """f, [batch, d_sae]."""
        z, theta, bandwidth = inputs
        ctx.save_for_backward(z, theta)
        ctx.bandwidth = bandwidth
        return z * (z > theta)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> tuple[Tensor, Tensor, None]:
        """dz = 1[z > θ]·g;  dθ = −(θ/ε)·Σ_rows K·g."""
        (g,) = outputs
        z, theta = ctx.saved_tensors
        near = _kernel(z, theta, ctx.bandwidth)
        return g * (z > theta), -(theta / ctx.bandwidth) * (near * g).sum(0), None


class _IsActive(Function):
    """s = 1[z > θ] with the pseudo-gradient for θ and none for z."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """s as 0 or 1, [batch, d_sae]."""
        z, theta, bandwidth = inputs
        ctx.save_for_backward(z, theta)
        ctx.bandwidth = bandwidth
        return (z > theta).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> tuple[None, Tensor, None]:
        """dθ = −(1/ε)·Σ_rows K·g."""
        (g,) = outputs
        z, theta = ctx.saved_tensors
        near = _kernel(z, theta, ctx.bandwidth)
        return None, -(near * g).sum(0) / ctx.bandwidth, None
