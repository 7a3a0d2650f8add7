"""A Slurm for the tests that send jobs to one."""

from collections.abc import Iterator

import pytest

from scopeworks.tests.pipelines.slurm_node import SlurmNode, missing_programs


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmNode]:
    """A Slurm of one node; calling it runs a client, `wait` waits for jobs."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"Slurm is not installed: no {', '.join(missing)}")
    node = SlurmNode()
    yield node
    node.stop()
