"""What an evaluation holds does not grow with its sequences."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 2**20


@pytest.mark.slow
def test_five_times_the_sequences_take_no_more_memory(tmp_path: Path):
    """They took 600 MiB more while small tensors of every sequence lay between a pass's large
    ones, which kept freed memory from being used again."""
    command = [sys.executable, "-m", "scopeworks.tests.evaluate.peak", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["few"] > 100 * MIB
    assert found["many"] < found["few"] + 250 * MIB
