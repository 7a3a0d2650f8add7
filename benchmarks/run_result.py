"""What a training run has left, without times: for comparing two runs bit for bit."""

import hashlib
from pathlib import Path

from scopeworks.train.saved.checkpoint import Checkpoints
from scopeworks.train.saved.metrics import read_metrics

TIMINGS = {"rows_per_s", "waiting_share"}


def result(out: Path) -> tuple[str, list[dict], str]:
    """Weights' digest, metrics without times, digest of the newest checkpoint's tensors."""
    lines = [{k: v for k, v in line.items() if k not in TIMINGS} for line in read_metrics(out)]
    checkpoint, tensors = Checkpoints(str(out / "checkpoints"), 2).newest(), hashlib.sha256()
    assert checkpoint is not None
    for name, tensor in sorted(checkpoint.tensors.items()):
        tensors.update(name.encode() + tensor.contiguous().numpy().tobytes())
    weights = hashlib.sha256((out / "sae.safetensors").read_bytes()).hexdigest()
    return weights, lines, tensors.hexdigest()
