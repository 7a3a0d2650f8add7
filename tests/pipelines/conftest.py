"""What whole runs are sent to: a Slurm, and a bucket in an emulator."""

from collections.abc import Iterator
from typing import Any

import pytest

from scopeworks.tests.pipelines.slurm_node import SlurmNode, missing_programs
from scopeworks.tests.store.clouds import gcs_emulator, gcs_options


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmNode]:
    """A Slurm of one node; calling it runs a client, `wait` waits for jobs."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"Slurm is not installed: no {', '.join(missing)}")
    node = SlurmNode()
    yield node
    node.stop()


@pytest.fixture
def bucket(monkeypatch) -> Iterator[dict[str, Any]]:
    """Storage options of an emulator with an empty bucket, whose address is in the environment."""
    pytest.importorskip("gcp_storage_emulator")
    # gcsfs 2026 otherwise asks a real service whether the bucket is hierarchical.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    with gcs_emulator() as port:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        yield gcs_options(port)
