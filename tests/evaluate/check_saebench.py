"""Measures an SAE with sae-bench's own core evaluation, in its own environment:
`python check_saebench.py FOLDER LAYER`; prints its numbers as JSON.

The folder holds `model/` (a Gemma 2), `tokens.npy` [n, context] and `params.npz` (Gemma Scope's
layout). The model is TransformerLens's HookedTransformer, as their runner has it; what serves the
tokens is ours, because theirs draws a data set from the hub.
"""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sae_bench.custom_saes.jumprelu_sae import JumpReluSAE  # pyright: ignore[reportMissingImports]
from sae_bench.evals.core.eval_config import CoreEvalConfig  # pyright: ignore[reportMissingImports]
from sae_bench.evals.core.main import run_evals  # pyright: ignore[reportMissingImports]
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions.gemma import convert_gemma_weights
from transformers import Gemma2ForCausalLM


def hooked(folder: Path) -> HookedTransformer:
    """The model in TransformerLens, unprocessed: what it has as Gemma 2 in its own table, with this
    model's sizes."""
    model = Gemma2ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config: Any = model.config
    sizes: dict[str, Any] = {
        "d_model": config.hidden_size,
        "d_head": config.head_dim,
        "n_heads": config.num_attention_heads,
        "n_key_value_heads": config.num_key_value_heads,
        "d_mlp": config.intermediate_size,
        "n_layers": config.num_hidden_layers,
        "n_ctx": config.max_position_embeddings,
        "d_vocab": config.vocab_size,
        "eps": config.rms_norm_eps,
        "act_fn": "gelu_pytorch_tanh",
        "normalization_type": "RMS",
        "final_rms": True,
        "gated_mlp": True,
        "use_normalization_before_and_after": True,
        "positional_embedding_type": "rotary",
        "rotary_base": 10_000,
        "rotary_dim": config.head_dim,
        "use_attn_scale": True,
        "attn_scale": math.sqrt(config.query_pre_attn_scalar),
        "use_local_attn": True,
        "window_size": config.sliding_window,
        "attn_types": ["local", "global"] * (config.num_hidden_layers // 2),
        "attn_scores_soft_cap": config.attn_logit_softcapping,
        "output_logits_soft_cap": config.final_logit_softcapping,
        "dtype": torch.float32,
        "device": "cpu",
        "original_architecture": "Gemma2ForCausalLM",
    }
    cfg = HookedTransformerConfig(**sizes)
    ours = HookedTransformer(cfg)
    ours.load_and_process_state_dict(
        convert_gemma_weights(model, cfg),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    return ours


def sae_of(path: Path, layer: int) -> JumpReluSAE:
    """Their JumpReLU SAE with the file's tensors."""
    arrays = np.load(path, allow_pickle=False)
    d_in, d_sae = arrays["W_enc"].shape
    sae = JumpReluSAE(d_in, d_sae, "gemma-2", layer, torch.device("cpu"), torch.float32)
    for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"):
        getattr(sae, name).data = torch.from_numpy(arrays[name])
    return sae


def main() -> None:
    folder, layer = Path(sys.argv[1]), int(sys.argv[2])
    tokens = torch.from_numpy(np.load(folder / "tokens.npy").astype(np.int64))
    store = SimpleNamespace(
        store_batch_size_prompts=len(tokens),
        context_size=tokens.shape[1],
        get_batch_tokens=lambda _n: tokens,
        reset_input_dataset=lambda: None,
    )
    asked = CoreEvalConfig(
        batch_size_prompts=len(tokens),
        n_eval_reconstruction_batches=1,
        n_eval_sparsity_variance_batches=1,
        compute_kl=True,
        compute_ce_loss=True,
        compute_l2_norms=True,
        compute_sparsity_metrics=True,
        compute_variance_metrics=True,
    )
    sae = sae_of(folder / "params.npz", layer)
    found, _ = run_evals(sae, store, hooked(folder / "model"), asked, ignore_tokens={0, 1, 2})
    print(json.dumps(found, default=float))


if __name__ == "__main__":
    main()
