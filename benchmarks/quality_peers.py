"""The trainers that are compared in `quality.py`: ours and those of two other libraries.

Each takes a run and the rows, and gives an SAE of our class on raw activations. A peer's loss,
optimizer, initialisation and own settings are those of its library, as installed. Rows, order,
width, updates and batch are equal for all, and so are three schedules: lr warms up over a fifteenth
of the run and falls linearly to 0 over the last fifth; the penalty warms up over a third. (The
libraries' defaults are for runs a hundred times as long.)
"""

import importlib
import importlib.metadata
import importlib.util
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from quality_case import BATCH, WIDTH, Case, Run
from torch import Tensor

from scopeworks.settings import resolve
from scopeworks.train.run.trainer import run as train
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE
from scopeworks.train.settings import TrainSettings

DECAY_SHARE = 0.2


def ours(run: Run, case: Case, folder: Path) -> SAE:
    """Our trainer with its recipe, λ steered to the target L0."""
    shutil.rmtree(folder, ignore_errors=True)
    values: dict[str, Any] = {
        "store": case.store,
        "site": case.site,
        "width": WIDTH,
        "batch": BATCH,
        "steps": run.updates,
        "target_l0": run.target_l0,
        "seed": run.seed,
        "recipe": "auto",
        "device": case.device,
        "checkpoint_every": run.updates,
        "measure_rows": BATCH,
    }
    if run.lr:
        values["lr"] = run.lr
    settings = resolve(TrainSettings, None, out=folder, **values | dict(run.changes))
    [out] = train([settings])
    return SAE.load(out)


def sae_lens_jumprelu(run: Run, case: Case, _folder: Path) -> SAE:
    """SAELens's JumpReLUTrainingSAE: ‖x − x̂‖² + coefficient·L0, ε 0.05, θ 0.01, E‖x‖² = d."""
    _stood_in("wandb", Histogram=list)
    from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig

    torch.manual_seed(run.seed)
    values: dict[str, Any] = {"l0_warm_up_steps": run.updates // 3} | dict(run.changes)
    config = JumpReLUTrainingSAEConfig(d_in=case.d, d_sae=WIDTH, device=case.device, **values)
    sae = JumpReLUTrainingSAE(config)
    scale = _sae_lens_trained(sae, run, case)
    tensors = (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, sae.threshold)
    return _folded(case, scale, *tensors, pre_bias=sae.cfg.apply_b_dec_to_input)


def sae_lens_batchtopk(run: Run, case: Case, _folder: Path) -> SAE:
    """SAELens's BatchTopKTrainingSAE with its auxiliary loss; E‖x‖² = d."""
    _stood_in("wandb", Histogram=list)
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig

    torch.manual_seed(run.seed)
    config = BatchTopKTrainingSAEConfig(
        d_in=case.d, d_sae=WIDTH, k=run.target_l0, device=case.device, **dict(run.changes)
    )
    sae = BatchTopKTrainingSAE(config)
    scale = _sae_lens_trained(sae, run, case)
    state = {name: tensor.detach().clone() for name, tensor in sae.state_dict().items()}
    sae.process_state_dict_for_saving_inference(state)
    names = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
    tensors = (state[name] for name in names)
    return _folded(case, scale, *tensors, pre_bias=sae.cfg.apply_b_dec_to_input)


def _sae_lens_trained(sae, run: Run, case: Case) -> float:
    """Trains in place with SAELens's SAETrainer; returns the divisor of the raw rows."""
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    scale = case.scale / case.d**0.5
    config = SAETrainerConfig(
        total_training_samples=run.updates * BATCH,
        train_batch_size_samples=BATCH,
        lr=run.lr,
        lr_end=run.lr,
        lr_warm_up_steps=run.updates // 15,
        lr_decay_steps=round(DECAY_SHARE * run.updates),
        device=case.device,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(config, sae, _scaled(case, scale))
    trainer.fit()
    return scale


def dictionary_learning_jumprelu(run: Run, case: Case, _folder: Path) -> SAE:
    """dictionary_learning's JumpReluTrainer: ‖x − x̂‖² + (L0/L0* − 1)², ε and θ 0.001, E‖x‖² = 1."""
    trainer = _dictionary_learning("jumprelu").JumpReluTrainer(
        target_l0=run.target_l0,
        sparsity_warmup_steps=run.updates // 3,
        **_usual(run, case),
    )
    ae = _dictionary_learning_trained(trainer, run, case)
    return _folded(
        case, case.scale, ae.W_enc, ae.b_enc, ae.W_dec, ae.b_dec, ae.threshold, pre_bias=False
    )


def dictionary_learning_batchtopk(run: Run, case: Case, _folder: Path) -> SAE:
    """dictionary_learning's BatchTopKTrainer with its auxiliary loss; E‖x‖² = 1."""
    trainer = _dictionary_learning("batch_top_k").BatchTopKTrainer(
        k=round(run.target_l0),
        threshold_start_step=min(1000, run.updates // 2),
        **_usual(run, case),
    )
    ae = _dictionary_learning_trained(trainer, run, case)
    W_enc, W_dec = ae.encoder.weight.T, ae.decoder.weight.T
    theta = torch.full((WIDTH,), float(ae.threshold))
    return _folded(case, case.scale, W_enc, ae.encoder.bias, W_dec, ae.b_dec, theta, pre_bias=True)


def _usual(run: Run, case: Case) -> dict[str, Any]:
    """Settings that dictionary_learning's trainers share."""
    torch.manual_seed(run.seed)
    return {
        "steps": run.updates,
        "activation_dim": case.d,
        "dict_size": WIDTH,
        "layer": 0,
        "lm_name": "none",
        "seed": run.seed,
        "lr": run.lr,
        "warmup_steps": run.updates // 15,
        "decay_start": run.updates - round(DECAY_SHARE * run.updates),
        "device": case.device,
    } | dict(run.changes)


def _dictionary_learning(name: str) -> types.ModuleType:
    """A module of dictionary_learning's trainers, imported without nnsight, which only its buffer
    needs."""
    _stood_in("nnsight", LanguageModel=object)
    return importlib.import_module(f"dictionary_learning.trainers.{name}")


def _stood_in(name: str, **has: Any) -> None:
    """Puts an empty module in the place of a missing one that a peer imports for something that is
    not done here: logging (wandb) or running language models (nnsight)."""
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        module = types.ModuleType(name)
        module.__dict__.update(has, __spec__=importlib.util.spec_from_loader(name, None))
        sys.modules[name] = module


def _dictionary_learning_trained(trainer, run: Run, case: Case):
    """The loop of dictionary_learning's `trainSAE`, which itself would import its logger."""
    rows = _scaled(case, case.scale)
    for step in range(run.updates):
        trainer.update(step, next(rows))
    return trainer.ae


def _scaled(case: Case, scale: float) -> Iterator[Tensor]:
    """The rows in a peer's units."""
    for batch in case.batches():
        yield batch / scale


def _folded(
    case: Case,
    scale: float,
    W_enc: Tensor,
    b_enc: Tensor,
    W_dec: Tensor,
    b_dec: Tensor,
    theta: Tensor,
    *,
    pre_bias: bool,
) -> SAE:
    """Our SAE on raw rows, made from one that was trained on rows divided by `scale`."""
    tensors = [t.detach().cpu().double() for t in (W_enc, b_enc, W_dec, b_dec, theta)]
    W_enc, b_enc, W_dec, b_dec, theta = tensors
    if pre_bias:
        b_enc = b_enc - b_dec @ W_enc
    config = SAEConfig(
        d_in=case.d,
        d_sae=WIDTH,
        d_out=case.d,
        site=case.site,
        model=Path(case.model).name,
    )
    parts = (W_enc, scale * b_enc, W_dec, scale * b_dec, scale * theta)
    return SAE(config, *(part.float().contiguous() for part in parts))


PEERS: dict[str, Callable[[Run, Case, Path], SAE]] = {
    "ours": ours,
    "sae_lens jumprelu": sae_lens_jumprelu,
    "sae_lens batchtopk": sae_lens_batchtopk,
    "dictionary_learning jumprelu": dictionary_learning_jumprelu,
    "dictionary_learning batchtopk": dictionary_learning_batchtopk,
}
