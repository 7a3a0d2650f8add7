"""What holds for every test: one thread each, and shapes checked at run time.

Tests run side by side (`-n auto`), so a second thread per test would only wait for the others.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

# Where there is no GPU, Triton's kernels run interpreted; it must know before anyone imports it.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import hypothesis
from jaxtyping import install_import_hook

# No example has a time limit: machines differ, and beside other work all of them are slow.
hypothesis.settings.register_profile("any_machine", deadline=None)
hypothesis.settings.load_profile("any_machine")

# The tensors' annotated shapes and dtypes are checked in tests only: it costs time in every call.
CHECKED = (
    "scopeworks.harvest.model.hooks",
    "scopeworks.evaluate.measure.lm_loss",
    "scopeworks.evaluate.measure.metrics",
    "scopeworks.evaluate.measure.importance",
    "scopeworks.store.format.permutations",
)
install_import_hook(CHECKED, "beartype.beartype")
