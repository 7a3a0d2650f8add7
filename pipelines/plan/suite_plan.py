"""A plan from Python: what a suite takes, before it is run.

Owns the one call. The figures are `quantities`' and `estimate`'s, the table of them is `page`'s.
"""

from typing import Any

from ...harvest.text.text_file import is_stream
from ...store.place.place import Place
from ..suite.members import members_of
from ..suite.outputs import Outputs
from ..suite.settings import AnySuite, SuiteFile
from .devices import device_named
from .estimate import Prices, Speed
from .page import as_json
from .quantities import quantities


def plan_suite(
    suite: AnySuite,
    device: str = "h100",
    *,
    ranks: int | None = None,
    gpu_hour: float = 0.0,
    tb_month: float = 0.0,
    days: float = 30.0,
) -> dict[str, Any]:
    """What a suite takes: tokens, rows, operations, bytes, seconds and price of each step, memory,
    and from how many SAEs on a store pays.

        plan_suite("gemma-scope-2b")["steps"]

    Nothing is run; texts are looked at for their sizes only, where they are on this machine.

    Args:
        suite: a suite file's path, a preset's name, or a `SuiteFile`.
        device: h100, a100, l4 or tpu-v3.
        ranks: devices that train the widest SAE together, at least 2.
        gpu_hour, tb_month: prices, in any currency.
        days: that activations are kept.

    Returns:
        What `scopeworks plan --json` prints.

    Raises:
        ValueError, OSError: there is no such suite or device, or the suite does not fit together.
    """
    file = SuiteFile.of(suite)
    rates = Prices(gpu_hour, tb_month, days)
    found = quantities(file, known_text_bytes(file))
    speed = Speed.of(device, device_named(device))
    return as_json(file, members_of(file), found, speed, rates, ranks)


def known_text_bytes(file: SuiteFile) -> int | None:
    """Bytes of the suite's text; None if it is not on this machine or its size is unknown."""
    text = file.text_table
    if text.store is not None or any(is_stream(n) or Place(n).is_remote for n in text.sources):
        return None
    try:
        return Outputs(file).text_bytes()
    except FileNotFoundError:
        return None
