"""What the study of storing compares: sizes, hours and prices, measured once."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from scopeworks.evaluate.studies.choices import storing
from scopeworks.pipelines.studies.inputs import storing_costs
from scopeworks.pipelines.studies.inputs.storing_costs import storing_documents
from scopeworks.pipelines.suite.settings import SuiteFile


@pytest.fixture
def file(tmp_path: Path, monkeypatch) -> SuiteFile:
    """The demo in a folder of its own, on a machine that harvests 20,000 rows a second."""
    speed = SimpleNamespace(measured={"harvest": 20_000.4})
    monkeypatch.setattr(storing_costs, "measured_speed", lambda *_given: speed)
    return SuiteFile(Path("demo"), [f'out="{tmp_path / "out"}"'])


def test_the_reports_case_has_the_reports_size(file):
    (document,) = storing_documents(file)[0]["storing"]
    raw, exact, own = document["storing"]["cases"]
    assert raw["bytes"] == 4 * 3584 * 8e9  # 104 TiB: the report says about 100
    assert exact["bytes"] == pytest.approx(8e9 * (3584 * 11 / 8 + 4))
    assert raw["pass_hours"] == exact["pass_hours"] == pytest.approx(49, abs=1)
    assert own["pass_hours"] == pytest.approx(589_824 / 20_000 / 3600)
    points = storing.points({"storing": [document]})
    assert storing.read(points).verdict == "does not hold"


def test_this_machine_is_measured_once_and_not_named(file, tmp_path, monkeypatch):
    first, made = storing_documents(file)
    monkeypatch.setattr(storing_costs, "measured_speed", None)
    again, made_again = storing_documents(file)
    assert (made, made_again) == (True, False)
    assert again == first
    path = tmp_path / "out" / "studies" / "storing" / "measured.json"
    assert json.loads(path.read_text()) == {"harvest_rows_per_s": 20_000.0}
    path.write_text('{"harvest_rows_per_s": 0}')
    with pytest.raises(ValueError, match="harvest_rows_per_s"):
        storing_documents(file)


def test_prices_are_the_suites(tmp_path, file):
    prices = ["prices.tb_month=[1.0, 2.0]", "prices.gpu_hour=[3.0, 3.0]"]
    dear = SuiteFile(Path("demo"), [f'out="{tmp_path / "out"}"', *prices])
    (document,) = storing_documents(dear)[0]["storing"]
    assert document["storing"]["cases"][0]["tb_month"] == [1.0, 2.0]
    assert document["storing"]["cases"][0]["device_hour"] == [3.0, 3.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("prices.tb_month=[3.0, 1.0]", r"prices\.tb_month must be \[low, high\]"),
        ("prices.tb_month=[0.0, 1.0]", r"prices\.tb_month"),
        ("prices.tb_month=5", r"prices\.tb_month"),
        ("prices.gpu=[1.0, 2.0]", r"gpu"),
    ],
)
def test_prices_that_are_none_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SuiteFile(Path("demo"), [change])
