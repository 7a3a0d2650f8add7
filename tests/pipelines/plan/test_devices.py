"""The time of an update, against what an H100 was measured to take."""

from pathlib import Path

import pytest

from scopeworks.pipelines.plan.devices import DEVICES, device_named
from scopeworks.pipelines.plan.estimate import Speed
from scopeworks.pipelines.plan.quantities import quantities
from scopeworks.pipelines.suite.settings import SuiteFile

MEASURED_MS = {
    (2304, 2**14, 20): 7.28,
    (2304, 2**14, 100): 13.52,
    (2304, 2**16, 100): 25.73,
    (3584, 2**14, 100): 16.04,
    (3584, 2**17, 100): 36.16,
    (2304, 2**20, 60): 74.0,
    (3584, 2**20, 60): 95.4,
}
"""(n, M, L0) -> median of an update of 4,096 rows, by benchmarks/train_step.py; of 2^20 latents on
an H200, by benchmarks/gpu.sh."""


@pytest.mark.parametrize("shape", MEASURED_MS)
def test_an_update_takes_what_was_measured(shape):
    n, width, l0 = shape
    sparse = 8 * n * l0 * 4096
    said = DEVICES["h100"].train_seconds(1, 2 * n * width * 4096 + sparse, sparse)
    assert 1e3 * said == pytest.approx(MEASURED_MS[shape], rel=0.3)


def test_devices_with_slower_memory_take_longer_for_the_same_arithmetic():
    times = [device_named(name).train_seconds(1e3, 3e14, 8e12) for name in ("h100", "a100", "l4")]
    assert times == sorted(times) and times[0] < times[-1] / 3


def test_where_our_step_does_not_run_only_operations_count():
    tpu = DEVICES["tpu-v3"]
    assert tpu.train_seconds(10, 1e15, 1e14) == pytest.approx(1e15 / (123e12 * 0.51))


def test_a_weekend_on_one_h100_is_hours_of_training_and_not_minutes():
    train = next(q for q in quantities(SuiteFile(Path("one-gpu-weekend"))) if q.step == "train")
    assert [one.n for one in train.updates] == [122_070] * 8
    wanted = [10, 15, 25, 40, 60, 80, 120, 200]
    assert [one.sparse_flops for one in train.updates] == [
        122_070 * 8 * 2304 * 4096 * l0 for l0 in wanted
    ]
    assert 2 < Speed.of("h100", DEVICES["h100"]).seconds(train) / 3600 < 4
