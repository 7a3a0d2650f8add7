"""What a pass holds does not grow with the rows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 2**20


@pytest.mark.slow
def test_eight_times_the_rows_take_no_more_memory(tmp_path: Path):
    """Rows of 256 bytes, of which the larger run reads 128 MiB; the sample is full in both."""
    rows = [2**16, 2**19]
    module = "scopeworks.tests.evaluate.latents.index.peak"
    command = [sys.executable, "-m", module, str(tmp_path), *map(str, rows)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    few, many = json.loads(result.stdout.splitlines()[-1])
    assert few > 16 * MIB
    assert many < 250 * MIB
    assert many < few + 150 * MIB
