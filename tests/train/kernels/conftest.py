"""Where there is no GPU, Triton's kernels run interpreted; set before they are imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
