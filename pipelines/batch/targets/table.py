"""The table of targets. Another target is one module and one row."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from ..jobs import Submission
from . import google, kubernetes, skypilot, slurm


@dataclass(frozen=True)
class Target:
    """A batch system.

    Attributes:
        render: returns a submission's files by name, with submit.sh and README.md.
        client: the program that submit.sh calls.
        install: how to get the client.
    """

    render: Callable[[Submission], dict[str, bytes]]
    client: str
    install: str


TARGETS = {
    "slurm": Target(slurm.render, "sbatch", "run this on a login node of the cluster"),
    "gcp-batch": Target(
        google.render, "gcloud", "install the Google Cloud CLI: https://cloud.google.com/sdk"
    ),
    "kubernetes": Target(
        kubernetes.render, "kubectl", "install it: https://kubernetes.io/docs/tasks/tools"
    ),
    "skypilot": Target(
        skypilot.render, "sky", "pip install 'skypilot[gcp]' in an environment of its own"
    ),
}


def target_named(name: str) -> Target:
    """The target of that name.

    Raises:
        ValueError: there is none; the error names the nearest.
    """
    if name in TARGETS:
        return TARGETS[name]
    close = difflib.get_close_matches(name, TARGETS, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"target must be one of {', '.join(TARGETS)}, got {name!r}{hint}")
