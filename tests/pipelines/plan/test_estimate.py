"""Hours, prices and the break-even, against the same sums written out."""

from pathlib import Path

import pytest

from scopeworks.pipelines.plan.devices import DEVICES, device_named
from scopeworks.pipelines.plan.estimate import (
    Prices,
    Speed,
    break_even,
    by_codec,
    model_bytes,
    read_bytes_per_s,
)
from scopeworks.pipelines.plan.memory import train_memory_bytes
from scopeworks.pipelines.plan.quantities import quantities
from scopeworks.pipelines.suite.members import members_of
from scopeworks.pipelines.suite.settings import SuiteFile

FILE = SuiteFile(Path("one-gpu-weekend"))
H100 = Speed.of("h100", DEVICES["h100"])


def test_the_reports_headline_step_takes_its_45_ms_on_eight_tpus():
    dense = 12 * 3584 * 131_072 * 4096
    tpu = device_named("tpu-v3")
    assert dense / (8 * tpu.peak_flops * tpu.share) == pytest.approx(0.045, rel=0.05)


def test_hours_are_operations_over_speed():
    harvest = next(q for q in quantities(FILE) if q.step == "harvest")
    assert H100.seconds(harvest) == pytest.approx(harvest.flops / (989e12 * 0.4))
    own = Speed("here", 1.0, {"harvest": 1e6}, {"harvest": 3.0})
    assert own.seconds(harvest) == pytest.approx(3 + harvest.rows / 1e6)


@pytest.mark.parametrize(("gpu_hour", "tb_month"), [(0.0, 0.0), (2.5, 20.0), (2.5, 1.0)])
def test_the_break_even_is_where_regenerating_begins_to_cost_more(gpu_hour, tb_month):
    found, members = quantities(FILE), members_of(FILE)
    rates = Prices(gpu_hour, tb_month, days=30.4)
    even = break_even(found, H100, rates, members)
    stored = sum(q.written.get("stores", 0.0) for q in found)
    once = even.regenerate + (stored / 1e12 * tb_month if gpu_hour else 0.0)
    assert even.together == 8 and even.saes is not None

    def again(saes: int) -> float:
        return -(-saes // 8) * even.regenerate

    assert again(even.saes) > once >= again(even.saes - 1)


def test_memory_of_a_group_is_parameters_and_moments_and_one_step():
    weekend = train_memory_bytes(FILE, members_of(FILE))
    # Encoder and decoder, their moments: 16 bytes a value; a bfloat16 encoder: 2 more. A step: z
    # and what finding its entries takes.
    states, step = 8 * 16_384 * 18 * 2304, 12 * 4096 * (16_384 + 8 * 2304)
    assert weekend == pytest.approx(1.1 * (states + step), rel=0.05)
    assert model_bytes(FILE) == pytest.approx(2 * 2.6e9, rel=0.02)


def test_codecs_and_bandwidth_follow_from_the_values():
    found = quantities(FILE)
    sizes = by_codec(found)
    assert sizes["exact"] == pytest.approx(5e8 * 2304 * 11 / 8)
    assert sizes["float32, raw (the report)"] == pytest.approx(5e8 * 2304 * 4)
    train = next(q for q in found if q.step == "train")
    per_s = read_bytes_per_s(found, H100)
    assert per_s == pytest.approx(train.read_bytes / H100.seconds(train))


def test_a_device_that_is_not_in_the_table_is_named():
    with pytest.raises(ValueError, match="device must be one of h100, a100, l4, tpu-v3, got 'h1'"):
        device_named("h1")
