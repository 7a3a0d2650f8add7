"""The JumpReLU training step in float64 by hand-derived formulas: slow, obvious, no autograd.

Owns the meaning that every backend of `train/kernels` is tested against. numpy only. One latent or
one row at a time where that is clearer; nothing here is shared with the code under test.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Settings:
    """The step's settings; see `scopeworks.train.kernels.StepSettings`."""

    lr: float = 1e-3
    sparsity: float = 1e-3
    bandwidth: float = 1e-3
    beta2: float = 0.999
    eps: float = 1e-8
    log_theta: bool = False
    pre_bias: bool = True
    target_l0: float | None = None
    coefficient: float = 0.0
    latent_weight: np.ndarray | None = None
    theta_floor: float = 1e-6


@dataclass
class Report:
    """Loss, its parts, and the gradient of every parameter."""

    loss: float
    mse: float
    penalty: float
    l0: float
    fired: np.ndarray
    gradients: dict[str, np.ndarray] = field(default_factory=dict)


def loss_and_gradients(
    p: dict[str, np.ndarray], x: np.ndarray, target: np.ndarray, s: Settings
) -> Report:
    """Loss and gradients; x [batch, d_in], target [batch, d_out], p holds W_enc [d_in, d_sae] etc.

    With e = 2(x̂ − target)/batch the gradient of the mse by x̂, and r_b the slope of row b's
    penalty in its L0:
        df = e·W_decᵀ;  dz = 1[z>θ]·df;  dW_dec = fᵀ·e;  dW_enc = (x − b_dec)ᵀ·dz;  db_enc = Σ dz
        db_dec = Σ e − Σ dz·W_encᵀ;  dW_skip = xᵀ·e
        dθ_i = −Σ_b K_bi·(θ_i·df_bi + r_b/batch + λ·w_i/batch)/ε
    """
    batch = len(x)
    xc = x - p["b_dec"] if s.pre_bias else x
    z = xc @ p["W_enc"] + p["b_enc"]
    active = z > p["theta"]
    f = np.where(active, z, 0.0)
    x_hat = f @ p["W_dec"] + p["b_dec"]
    if "W_skip" in p:
        x_hat = x_hat + x @ p["W_skip"]
    residual = x_hat - target
    l0 = active.sum(1).astype(float)
    weight = np.zeros(z.shape[1]) if s.latent_weight is None else s.latent_weight
    if s.target_l0 is None:
        rows, slope = l0, np.ones(batch)
    else:
        rows = s.coefficient * (l0 - s.target_l0) ** 2
        slope = 2 * s.coefficient * (l0 - s.target_l0)
    penalty = s.sparsity * (rows + active @ weight).mean()
    mse = (residual**2).sum(1).mean()

    e = 2 * residual / batch
    df = e @ p["W_dec"].T
    dz = np.where(active, df, 0.0)
    d_theta = np.zeros(z.shape[1])
    for b in range(batch):
        for i in np.flatnonzero(np.abs(z[b] - p["theta"]) < s.bandwidth / 2):
            through_f = p["theta"][i] * df[b, i]
            through_l0 = s.sparsity * (slope[b] + weight[i]) / batch
            d_theta[i] -= (through_f + through_l0) / s.bandwidth
    gradients = {
        "W_enc": xc.T @ dz,
        "b_enc": dz.sum(0),
        "W_dec": f.T @ e,
        "b_dec": e.sum(0),
        "theta": d_theta,
    }
    if s.pre_bias:
        gradients["b_dec"] -= (dz @ p["W_enc"].T).sum(0)
    if "W_skip" in p:
        gradients["W_skip"] = x.T @ e
    return Report(mse + penalty, mse, penalty, l0.mean(), active.sum(0), gradients)


def update(
    p: dict[str, np.ndarray],
    moments: dict[str, np.ndarray],
    gradients: dict[str, np.ndarray],
    n_updates: int,
    s: Settings,
) -> None:
    """Adam with β1 = 0, in place; `n_updates` counts this update, from 1."""
    g = {name: gradient.copy() for name, gradient in gradients.items()}
    for i, row in enumerate(p["W_dec"]):
        g["W_dec"][i] -= (g["W_dec"][i] @ row) * row
    if s.log_theta:
        g["theta"] *= p["theta"]
    for name, gradient in g.items():
        moments[name] *= s.beta2
        moments[name] += (1 - s.beta2) * gradient**2
        corrected = moments[name] / (1 - s.beta2**n_updates)
        change = s.lr * gradient / (np.sqrt(corrected) + s.eps)
        if name == "theta" and s.log_theta:
            p["theta"] *= np.exp(-change)
        else:
            p[name] -= change
    if not s.log_theta:
        np.maximum(p["theta"], s.theta_floor, out=p["theta"])
    p["W_dec"] /= np.linalg.norm(p["W_dec"], axis=1, keepdims=True)


def expected_loss(
    w: np.ndarray, d: np.ndarray, theta: float, sparsity: float, x_std: float
) -> float:
    """E[‖x − x̂‖² + λ‖f‖₀] up to a constant, of one latent without biases, for x ~ N(0, x_std²·I).

    z = w·x is N(0, x_std²‖w‖²) and E[d·x | z] = (d·w/‖w‖²)·z, so the loss that depends on θ is
    ∫_θ^∞ (z²‖d‖² − 2z²·d·w/‖w‖² + λ)·p(z) dz. Its derivative by θ is what the pseudo-gradients
    estimate: (E[2θ·d·(x − x̂) | z = θ] − λ)·p_z(θ), x̂ averaged over both sides of the jump.
    """
    std = x_std * np.linalg.norm(w)
    z = np.linspace(theta, theta + 12 * std, 200_001)
    density = np.exp(-0.5 * (z / std) ** 2) / (std * np.sqrt(2 * np.pi))
    integrand = (z**2 * (d @ d) - 2 * z**2 * (d @ w) / (w @ w) + sparsity) * density
    return float(np.trapezoid(integrand, z))
