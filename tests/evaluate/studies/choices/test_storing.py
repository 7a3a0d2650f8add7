"""The storing study against arithmetic by hand."""

import pytest

from scopeworks.evaluate.studies.choices import storing
from scopeworks.evaluate.study.study import Documents


def documents(n_bytes: float, tb_month: tuple[float, float] = (10.0, 10.0)) -> Documents:
    """A pass of 100 hours at 1 to 4 dollars, and so many bytes."""
    case = {"name": "large", "bytes": n_bytes, "pass_hours": 100.0, "device_hour": [1.0, 4.0]}
    return {"storing": [{"storing": {"cases": [case | {"tb_month": list(tb_month)}]}}]}


@pytest.mark.parametrize(
    ("n_bytes", "tb_month", "verdict"),
    [
        (1e11, (10.0, 10.0), "holds"),
        (1e14, (10.0, 10.0), "does not hold"),
        (1e12, (0.01, 10.0), "cannot be told"),
    ],
)
def test_the_ranges_at_ten_and_a_hundred_days_decide(
    n_bytes: float, tb_month: tuple[float, float], verdict: str
):
    points = storing.points(documents(n_bytes, tb_month))
    assert storing.read(points).verdict == verdict
    assert [plot.name for plot in storing.plots(points)] == ["costs", "saes"]


def test_costs_by_hand():
    points = storing.points(documents(3.04e12))
    found = {(p["metric"], p["days"]): (p.low, p.value, p.high) for p in points}
    assert found["regenerate", 10] == pytest.approx((100, 200, 400))
    assert found["keep", 100] == pytest.approx((100, 100, 100))
    assert found["times_cheaper", 100] == pytest.approx((1, 2, 4))
    # pass + keep < n passes: 100 + 100 < 100 n at the worst prices, 400 + 100 < 400 n at the best.
    assert found["saes", 100] == (2, 2, 3)
    assert found["tb_month_at_claim", 100] == pytest.approx((1, 2, 4))


def test_the_sentence_says_what_would_have_to_be():
    reading = storing.read(storing.points(documents(3.04e13)))
    assert "large: a pass of the model costs $200 (100 to 400)" in reading.sentence
    assert "keeping $100 (100 to 100) for 10 days" in reading.sentence
    assert reading.numbers["tb_month_needed"] == pytest.approx([2, 0.2])
