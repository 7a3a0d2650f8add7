"""The studies of choices as whole runs of a suite of seconds."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scopeworks.evaluate.saved.study_file import read_reading
from scopeworks.pipelines.cli import app
from scopeworks.tests.pipelines.small_suite import write_suite

PLOTS = {
    "precision": ["precision"],
    "transcoder": [*(f"layer-{layer}" for layer in range(6)), "layers"],
    "mixing": ["orders", "mixing"],
    "bandwidth": ["l0", "fvu", "theta_moved", "frontier"],
    "storing": ["costs", "saes"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("choices")
    path = write_suite(folder, sparsity=[3e-3, 6e-3])
    path.write_text(path.read_text().replace("n_sequences = 4", "n_sequences = 20"))
    return folder


def points(folder: Path) -> list[dict[str, str]]:
    with (folder / "points.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("name", PLOTS)
def test_a_study_of_choices_runs_as_a_whole(folder: Path, name: str):
    words = ["study", name, str(folder / "suite.toml")]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    out = folder / "out" / "studies" / name
    reading = read_reading(out)
    names = [plot.name for plot in reading.plots]
    assert names == [plot for plot in PLOTS[name] if plot in names] and names
    again = CliRunner().invoke(app, words, catch_exceptions=False)
    assert again.exit_code == 0 and ": now" not in again.output
    assert read_reading(out) == reading
    if name == "mixing":
        shares = {p["order"]: float(p["value"]) for p in points(out) if p["metric"] == "mixing"}
        assert shares["sequence"] > 10 * shares["perfect"]
