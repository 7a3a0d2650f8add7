"""docs/api.md is what the docstrings say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_the_interface_is_current():
    page = [sys.executable, str(ROOT / "scripts" / "api_page.py"), "--check"]
    done = subprocess.run(page, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run python scripts/api_page.py\n{done.stderr}"
