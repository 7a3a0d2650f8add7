"""The way to a cluster, and what a task that was lost says."""

import pytest

from scopeworks.workers import cluster


@pytest.mark.parametrize("where", ["local:0", "local", "nowhere.json"])
def test_dask_must_be_a_cluster(where):
    with (
        pytest.raises(ValueError, match="dask must be local:N, a scheduler's address"),
        cluster.connect(where),
    ):
        pass


def test_a_task_that_was_done_again_meanwhile_is_done():
    class Recomputed:  # its worker died after it had told that it was done
        status = "pending"

        def exception(self) -> None:
            self.status = "finished"

    cluster.check_done(Recomputed(), "bucket 3")


def test_a_task_that_was_cancelled_is_not_done():
    class Cancelled:
        status = "cancelled"

        def exception(self) -> None:
            return None

    with pytest.raises(OSError, match="bucket 3 was cancelled"):
        cluster.check_done(Cancelled(), "bucket 3")
