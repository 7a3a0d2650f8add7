"""Evaluation metrics in float64, one token at a time: slow and obvious, nothing shared with
`scopeworks.evaluate`.
"""

import math

import torch
from torch import Tensor

from .gemma_forward import double_weights, heads_out, rms_norm, rms_normalised


def layer_with_splice(x: Tensor, w: dict[str, Tensor], layer: int, config, splices: dict):
    """One decoder layer; `splices` maps a site's name to a function of its tensor. Returns its
    output and its sites.
    """
    own, eps = f"model.layers.{layer}.", config.rms_norm_eps
    sites: dict[str, Tensor] = {}

    def at(kind: str, value: Tensor) -> Tensor:
        name = f"{kind}.{layer}"
        sites[name] = value
        return splices[name](value) if name in splices else value

    heads = at(
        "attn_out", heads_out(rms_norm(x, w[own + "input_layernorm.weight"], eps), w, layer, config)
    )
    projected = heads @ w[own + "self_attn.o_proj.weight"].T
    middle = x + rms_norm(projected, w[own + "post_attention_layernorm.weight"], eps)
    normalised = at("transcoder_in", rms_normalised(middle, eps))
    gained = at("mlp_in", normalised * (1 + w[own + "pre_feedforward_layernorm.weight"]))
    gate = torch.nn.functional.gelu(gained @ w[own + "mlp.gate_proj.weight"].T, approximate="tanh")
    down = (gate * (gained @ w[own + "mlp.up_proj.weight"].T)) @ w[own + "mlp.down_proj.weight"].T
    mlp_out = at("mlp_out", rms_norm(down, w[own + "post_feedforward_layernorm.weight"], eps))
    return at("resid_post", middle + mlp_out), sites


def run(model, ids: Tensor, splices: dict | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities [batch, seq, vocabulary] and every site's tensor, float64."""
    w, config = double_weights(model), model.config
    x = w["model.embed_tokens.weight"][ids] * math.sqrt(config.hidden_size)
    sites: dict[str, Tensor] = {}
    for layer in range(config.num_hidden_layers):
        x, own = layer_with_splice(x, w, layer, config, splices or {})
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


def mean_loss(log_p: Tensor, ids: Tensor, special: set[int]) -> tuple[float, list[list[float]]]:
    """Mean cross-entropy over positions where token and next token are ordinary, and its terms by
    position.
    """
    terms: list[list[float]] = [[] for _ in range(ids.shape[1])]
    for s in range(ids.shape[0]):
        for t in range(ids.shape[1] - 1):
            here, following = int(ids[s, t]), int(ids[s, t + 1])
            if here not in special and following not in special:
                terms[t].append(-float(log_p[s, t, following]))
    every = [term for position in terms for term in position]
    return sum(every) / len(every), terms


def evaluate_sae(model, sae, site: str, target: str, ids: Tensor, special: set[int]) -> dict:
    """Every metric of one SAE, special positions left alone in every splice."""
    clean_p, sites = run(model, ids)
    rows = [
        (s, t)
        for s in range(ids.shape[0])
        for t in range(ids.shape[1])
        if int(ids[s, t]) not in special
    ]
    x = torch.stack([sites[target][s, t] for s, t in rows])
    mean = x.mean(0)
    both = [jump_relu(sae, sites[site][s, t]) for s, t in rows]
    f, x_hat = torch.stack([pair[0] for pair in both]), torch.stack([pair[1] for pair in both])

    def loss_with(values: Tensor) -> float:
        def splice(tensor: Tensor) -> Tensor:
            changed = tensor.clone()
            for row, (s, t) in enumerate(rows):
                changed[s, t] = values[row]
            return changed

        return mean_loss(run(model, ids, {target: splice})[0], ids, special)[0]

    clean, spliced = mean_loss(clean_p, ids, special)[0], loss_with(x_hat)
    mean_ablated, zero_ablated = loss_with(mean.expand_as(x)), loss_with(torch.zeros_like(x))
    return {
        "n_tokens": len(rows),
        "l0": float((f > 0).sum(1).double().mean()),
        "mse": float(((x - x_hat) ** 2).sum(1).mean()),
        "fvu": float(((x - x_hat) ** 2).sum(1).mean() / ((x - mean) ** 2).sum(1).mean()),
        "fired": (f > 0).sum(0),
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
