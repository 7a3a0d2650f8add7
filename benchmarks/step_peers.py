"""Training steps of other libraries on the same cases."""

import importlib
import importlib.util
import sys
import types

import torch
from step_case import BANDWIDTH, LR, SPARSITY, Case, Run, count_active
from torch import Tensor


def sae_lens(case: Case) -> Run:
    """SAELens: JumpReLUTrainingSAE and its trainer's `step`, with the report's β1, λ and ε."""
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    p = case.parameters()
    sae = JumpReLUTrainingSAE(
        JumpReLUTrainingSAEConfig(
            d_in=case.d,
            d_sae=case.width,
            device=case.device,
            jumprelu_init_threshold=float(p.theta[0]),
            jumprelu_bandwidth=BANDWIDTH,
            l0_coefficient=SPARSITY,
            apply_b_dec_to_input=True,
        )
    )
    sae.W_enc.data.copy_(p.W_enc)
    sae.W_dec.data.copy_(p.W_dec)
    config = SAETrainerConfig(
        total_training_samples=10**9,
        train_batch_size_samples=case.batch,
        lr=LR,
        lr_end=LR,
        adam_beta1=0.0,
        device=case.device,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(config, sae, iter([]))

    def run(x: Tensor) -> None:
        trainer.step(x)
        trainer.n_training_steps += 1

    def l0(x: Tensor) -> float:
        return count_active(x, sae.W_enc, sae.b_enc, sae.threshold, sae.b_dec)

    return Run(run, l0)


def dictionary_learning(case: Case) -> Run:
    """dictionary_learning's JumpReluTrainer.update; its buffer's nnsight is not needed here."""
    if "nnsight" not in sys.modules and importlib.util.find_spec("nnsight") is None:
        stand_in = types.ModuleType("nnsight")
        stand_in.__dict__["LanguageModel"] = object
        sys.modules.setdefault("nnsight", stand_in)
    module = importlib.import_module("dictionary_learning.trainers.jumprelu")
    p = case.parameters()
    trainer = module.JumpReluTrainer(
        steps=10**6,
        activation_dim=case.d,
        dict_size=case.width,
        layer=0,
        lm_name="none",
        lr=LR,
        bandwidth=BANDWIDTH,
        sparsity_penalty=SPARSITY,
        target_l0=case.l0,
        device=case.device,
    )
    trainer.ae.W_enc.data.copy_(p.W_enc)
    trainer.ae.W_dec.data.copy_(p.W_dec)
    trainer.ae.threshold.data.copy_(p.theta)
    steps = iter(range(10**6))

    def l0(x: Tensor) -> float:
        ae = trainer.ae
        return count_active(x, ae.W_enc, ae.b_enc, ae.threshold, torch.zeros_like(ae.b_dec))

    return Run(lambda x: trainer.update(next(steps), x), l0)
