"""metrics.jsonl: what a full disk says."""

from pathlib import Path

import pytest

from scopeworks.train.saved.metrics import METRICS_FILE, append_line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_an_error_that_names_the_file(tmp_path: Path):
    (tmp_path / METRICS_FILE).symlink_to("/dev/full")
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path / METRICS_FILE}'"):
        append_line(tmp_path, {"step": 1})
