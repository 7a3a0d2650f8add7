"""Inputs of the study of storing: sizes and hours of a few cases, and prices.

Owns the sources of its numbers: the plan's quantities of a preset and of the suite, the table of
devices, and the speed of harvesting on this machine. The speed is measured once and kept beside the
study's files, so that the same command gives the same files. The study does the arithmetic.
"""

from pathlib import Path
from typing import Any

from pydantic import PositiveFloat

from ....foreign import Document, read_document
from ....store.place.files import write_json
from ...plan.devices import DEVICES
from ...plan.estimate import by_codec
from ...plan.quantities import Quantities, quantities
from ...run.measure import measured_speed
from ...suite.outputs import Outputs
from ...suite.settings import SuiteFile

MEASURED_FILE = "measured.json"
PRESET, SITE = Path("gemma-scope-9b"), "resid_post.20"
DEVICE = "h100"


class _Measured(Document):
    """The speed that was measured on this machine."""

    harvest_rows_per_s: PositiveFloat


def storing_documents(file: SuiteFile) -> tuple[dict[str, list[dict[str, Any]]], bool]:
    """The study's documents, and whether the speed had to be measured for them.

    Raises:
        ValueError, OSError: the suite cannot be planned, or its cut-down run fails.
    """
    path = file.suite.out.expanduser().absolute() / "studies" / "storing" / MEASURED_FILE
    text_bytes = Outputs(file).text_bytes() if file.text_table.store is None else None
    there = path.is_file()
    if not there:
        speed = measured_speed(file, text_bytes, "this machine")
        rows_per_s = float(f"{speed.measured['harvest']:.3g}")
        write_json(path, {"harvest_rows_per_s": rows_per_s})
    found = read_document(_Measured, path.read_bytes(), str(path))
    own = _harvest(quantities(file, text_bytes))
    prices = file.suite.prices
    cases = [*_report_cases(file), _own_case(own, found.harvest_rows_per_s, file)]
    document = {
        "model": {"name": file.suite.model},
        "text": "sizes, hours and prices",
        "saes": [],
        "storing": {"prices": prices.model_dump(mode="json"), "cases": cases},
    }
    return {"storing": [document]}, not there


def _report_cases(file: SuiteFile) -> list[dict[str, Any]]:
    """One site of one layer of Gemma 2 9B over 8B rows, as raw float32 as in the report and in
    codec `exact`."""
    prices = file.suite.prices
    preset = SuiteFile(
        PRESET,
        [f'sae.site="{SITE}"', "harvest.rows=8000000000", f'harvest.site="{SITE}"'],
    )
    preset.suite = preset.suite.model_copy(
        update={"harvest": preset.suite.harvest[-1:], "sae": preset.suite.sae[:1]}
    )
    harvest, device = _harvest(found := quantities(preset)), DEVICES[DEVICE]
    sizes = by_codec(found)
    hours = harvest.flops / (device.peak_flops * device.share) / 3600
    shared = {"pass_hours": hours, "device_hour": list(prices.gpu_hour)}
    shared |= {"tb_month": list(prices.tb_month), "rows": harvest.rows}
    name = "Gemma 2 9B, one site"
    return [
        {"name": f"{name}, float32", "bytes": sizes["float32, raw (the report)"]} | shared,
        {"name": f"{name}, exact", "bytes": sum(harvest.written.values())} | shared,
    ]


def _own_case(harvest: Quantities, rows_per_s: float, file: SuiteFile) -> dict[str, Any]:
    """The suite's own rows, at this machine's speed of harvesting."""
    prices = file.suite.prices
    return {
        "name": f"{file.suite.name}, as measured",
        "rows": harvest.rows,
        "pass_hours": harvest.rows / rows_per_s / 3600,
        "device_hour": list(prices.machine_hour),
        "bytes": sum(harvest.written.values()),
        "tb_month": list(prices.tb_month),
    }


def _harvest(found: list[Quantities]) -> Quantities:
    """The harvest among a plan's steps."""
    return next(one for one in found if one.step == "harvest")
