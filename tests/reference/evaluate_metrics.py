"""Evaluation metrics in float64, one token at a time: slow and obvious, nothing shared with
`scopeworks.evaluate`.
"""

import math

import torch
from torch import Tensor

from .gemma_forward import Heads, double_weights, heads_out, rms_norm, rms_normalised


def layer_with_splice(
    x: Tensor, w: dict[str, Tensor], layer: int, config, splices: dict, heads: Heads
):
    """One decoder layer; `splices` maps a site's name to a function of its tensor. Returns its
    output and its sites.
    """
    own, eps = f"model.layers.{layer}.", config.rms_norm_eps
    sites: dict[str, Tensor] = {}

    def at(kind: str, value: Tensor) -> Tensor:
        name = f"{kind}.{layer}"
        sites[name] = value
        return splices[name](value) if name in splices else value

    normed = rms_norm(x, w[own + "input_layernorm.weight"], eps)
    projected = (
        at("attn_out", heads(normed, w, layer, config)) @ w[own + "self_attn.o_proj.weight"].T
    )
    middle = x + rms_norm(projected, w[own + "post_attention_layernorm.weight"], eps)
    normalised = at("transcoder_in", rms_normalised(middle, eps))
    gained = at("mlp_in", normalised * (1 + w[own + "pre_feedforward_layernorm.weight"]))
    gate = torch.nn.functional.gelu(gained @ w[own + "mlp.gate_proj.weight"].T, approximate="tanh")
    down = (gate * (gained @ w[own + "mlp.up_proj.weight"].T)) @ w[own + "mlp.down_proj.weight"].T
    mlp_out = at("mlp_out", rms_norm(down, w[own + "post_feedforward_layernorm.weight"], eps))
    return at("resid_post", middle + mlp_out), sites


def run(
    model, ids: Tensor, splices: dict | None = None, heads: Heads = heads_out
) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities [batch, seq, vocabulary] and every site's tensor, float64."""
    w, config = double_weights(model), model.config
    x = w["model.embed_tokens.weight"][ids] * math.sqrt(config.hidden_size)
    sites: dict[str, Tensor] = {}
    for layer in range(config.num_hidden_layers):
        x, own = layer_with_splice(x, w, layer, config, splices or {}, heads)
        sites |= own
    x = rms_norm(x, w["model.norm.weight"], config.rms_norm_eps)
    logits = x @ w["model.embed_tokens.weight"].T
    cap = config.final_logit_softcapping
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    return logits.log_softmax(-1), sites


def jump_relu(sae, x: Tensor) -> tuple[Tensor, Tensor]:
    """(f, x̂) of one vector, float64, latent by latent."""
    t = {name: value.double() for name, value in sae.tensors().items()}
    f = torch.zeros(t["W_enc"].shape[1], dtype=torch.float64)
    x_hat = t["b_dec"].clone()
    for j in range(len(f)):
        z = (x * t["W_enc"][:, j]).sum() + t["b_enc"][j]
        if z > t["theta"][j]:
            f[j] = z
    for j in sorted(range(len(f)), key=lambda j: -float(f[j]))[sae.config.k or len(f) :]:
        f[j] = 0
    for j in range(len(f)):
        x_hat += f[j] * t["W_dec"][j]
    if "W_skip" in t:
        x_hat += x @ t["W_skip"]
    return f, x_hat


def mean_loss(
    log_p: Tensor, ids: Tensor, counted: set[tuple[int, int]]
) -> tuple[float, list[list[float]]]:
    """Mean cross-entropy where the position (sequence, place) and the next one are counted, and its
    terms by position.
    """
    terms: list[list[float]] = [[] for _ in range(ids.shape[1])]
    for s in range(ids.shape[0]):
        for t in range(ids.shape[1] - 1):
            if {(s, t), (s, t + 1)} <= counted:
                terms[t].append(-float(log_p[s, t, int(ids[s, t + 1])]))
    every = [term for position in terms for term in position]
    return sum(every) / len(every), terms


def mean_kl(log_p: Tensor, log_q: Tensor, ids: Tensor, rows: set[tuple[int, int]]) -> float:
    """Mean Σ_v p_v (log p_v − log q_v) over the same positions as `mean_loss`."""
    terms = []
    for s in range(ids.shape[0]):
        for t in range(ids.shape[1] - 1):
            if (s, t) in rows and (s, t + 1) in rows:
                p, q = log_p[s, t], log_q[s, t]
                terms.append(float((p.exp() * (p - q)).sum()))
    return sum(terms) / len(terms)


def delete_one_error(sums: list[tuple[float, float]]) -> float:
    """The jackknife's standard error of Σ a / Σ b over sequences with the sums (a, b): what is left
    when each is taken away. Agrees with the delta method up to terms of one over their number.
    """
    n = len(sums)
    a, b = (sum(pair[i] for pair in sums) for i in (0, 1))
    without = [(a - own_a) / (b - own_b) for own_a, own_b in sums]
    mean = sum(without) / n
    return math.sqrt((n - 1) / n * sum((value - mean) ** 2 for value in without))


def evaluate_sae(
    model,
    sae,
    site: str,
    target: str,
    ids: Tensor,
    special: set[int],
    prefix: int = 0,
    keep: Tensor | None = None,
    factors: tuple[float, float] = (1.0, 1.0),
    heads: Heads = heads_out,
) -> dict:
    """Every metric of one SAE; special positions and the prefix are left alone in every splice.

    Only positions in `keep` count. The SAE reads factors[0] · x, and what it gives is divided by
    factors[1].
    """
    clean_p, sites = run(model, ids, heads=heads)
    every = [
        (s, t)
        for s in range(ids.shape[0])
        for t in range(prefix, ids.shape[1])
        if int(ids[s, t]) not in special
    ]
    rows = [(s, t) for s, t in every if keep is None or bool(keep[s, t])]
    counted = set(rows)
    both = {at: jump_relu(sae, factors[0] * sites[site][at]) for at in every}
    given = {at: x_hat / factors[1] for at, (_, x_hat) in both.items()}
    f, x_hat = torch.stack([both[at][0] for at in rows]), torch.stack([given[at] for at in rows])
    x = torch.stack([sites[target][at] for at in rows])
    mean = x.mean(0)

    def spliced_with(values: dict[tuple[int, int], Tensor]) -> Tensor:
        def splice(tensor: Tensor) -> Tensor:
            changed = tensor.clone()
            for at in every:
                changed[at] = values[at]
            return changed

        return run(model, ids, {target: splice}, heads)[0]

    def loss_with(values: dict[tuple[int, int], Tensor]) -> float:
        return mean_loss(spliced_with(values), ids, counted)[0]

    spliced_p = spliced_with(given)
    clean, spliced = (mean_loss(log_p, ids, counted)[0] for log_p in (clean_p, spliced_p))
    lengths, lengths_hat = x.norm(dim=1), x_hat.norm(dim=1)
    fired = (f > 0).sum(0)
    mean_ablated = loss_with(dict.fromkeys(every, mean))
    zero_ablated = loss_with(dict.fromkeys(every, torch.zeros_like(mean)))
    return {
        "n_tokens": len(rows),
        "l0": float((f > 0).sum(1).double().mean()),
        "mse": float(((x - x_hat) ** 2).sum(1).mean()),
        "fvu": float(((x - x_hat) ** 2).sum(1).mean() / ((x - mean) ** 2).sum(1).mean()),
        "token_fvu": float((((x - x_hat) ** 2).sum(1) / ((x - mean) ** 2).sum(1)).mean()),
        "fvu_by_dimension": [
            float(((x[:, i] - x_hat[:, i]) ** 2).sum() / ((x[:, i] - mean[i]) ** 2).sum())
            for i in range(x.shape[1])
        ],
        "cosine": float(((x * x_hat).sum(1) / (lengths * lengths_hat)).mean()),
        "norm_ratio": float((lengths_hat / lengths).mean()),
        "fired": fired,
        "share_above_1_percent": sum(int(n) > 0.01 * len(rows) for n in fired) / len(fired),
        "share_above_10_percent": sum(int(n) > 0.1 * len(rows) for n in fired) / len(fired),
        "kl": mean_kl(clean_p, spliced_p, ids, counted),
        "clean_loss": clean,
        "spliced_loss": spliced,
        "delta_loss": spliced - clean,
        "mean_ablation_loss": mean_ablated,
        "zero_ablation_loss": zero_ablated,
        "recovered_share": (mean_ablated - spliced) / (mean_ablated - clean),
        "recovered_share_of_zero_ablation": (zero_ablated - spliced) / (zero_ablated - clean),
        "errors": {row: float(((x[i] - x_hat[i]) ** 2).sum()) for i, row in enumerate(rows)},
    }


def attribution(model, sae, site: str, target: str, ids: Tensor, row: int, position: int) -> Tensor:
    """y_j = f_j · dL/dh at h = 0, where x + h·W_dec[j] stands at one position: by central
    differences, float64.
    """
    _, sites = run(model, ids[row : row + 1])
    f, _ = jump_relu(sae, sites[site][0, position])
    correct, h = int(ids[row, position + 1]), 1e-4

    def objective(step: Tensor) -> float:
        def splice(tensor: Tensor) -> Tensor:
            changed = tensor.clone()
            changed[0, position] += step
            return changed

        # A log-probability differs from its logit by the same number for every token, which
        # centring takes away.
        log_p, _ = run(model, ids[row : row + 1], {target: splice})
        return float(log_p[0, position, correct] - log_p[0, position].mean())

    y = torch.zeros_like(f)
    for j in torch.nonzero(f).flatten().tolist():
        direction = h * sae.W_dec[j].double()
        y[j] = f[j] * (objective(direction) - objective(-direction)) / (2 * h)
    return y
