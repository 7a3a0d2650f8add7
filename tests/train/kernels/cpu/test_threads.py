"""The CPU kernels' cache knows all sources that code may be inlined from."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="the cpu backend needs numba")

from scopeworks.train.kernels.cpu import threads


def test_cache_is_another_when_any_source_of_the_step_has_changed(tmp_path, monkeypatch):
    folder = Path(threads.__file__).parent
    copy = shutil.copytree(folder, tmp_path / "cpu", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(threads, "__file__", str(copy / "threads.py"))
    known = {threads._version.__wrapped__()}
    sources = sorted(copy.glob("*.py"))
    assert {"vectors.py", "update.py", "rows.py"} <= {path.name for path in sources}
    for path in sources:
        path.write_text(path.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
        known.add(threads._version.__wrapped__())
    assert len(known) == 1 + len(sources)
