"""A text tokenized in shares: the same token store, whoever comes when."""

import shutil

import numpy as np
import pytest

from scopeworks.console import NotReadyError
from scopeworks.harvest.settings import TokenizeSettings
from scopeworks.harvest.tokens import text_parts
from scopeworks.harvest.tokens.run import tokenize_text
from scopeworks.store import TokenStore
from scopeworks.workers.share import TaskShare


@pytest.fixture
def text_dir(tmp_path, monkeypatch):
    """Nine files, each a part of its own."""
    monkeypatch.setattr(text_parts, "PART_BYTES", 1000)
    folder = tmp_path / "text"
    folder.mkdir()
    for i in range(9):
        (folder / f"{i}.txt").write_text(f"This is document {i}. " * (40 + i))
    return folder


def settings(model_dir, text_dir, out, **changes) -> TokenizeSettings:
    values = {"context": 32, "held_out": 0.3, "seed": 5} | changes
    return TokenizeSettings(model=str(model_dir), text=[str(text_dir)], out=str(out), **values)


@pytest.mark.parametrize("tokens", [None, 400])
def test_shares_make_the_store_that_one_process_makes(model_dir, text_dir, tmp_path, tokens):
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    tokenize_text(settings(model_dir, text_dir, whole, tokens=tokens))
    asked = settings(model_dir, text_dir, shared, tokens=tokens)
    if tokens is None:
        with pytest.raises(NotReadyError, match="6 of 9 parts of the text are not tokenized yet"):
            tokenize_text(asked, share=TaskShare(0, 3))
    tokenize_text(asked, share=TaskShare(2, 3))
    tokenize_text(asked, share=TaskShare(1, 3))
    assert not (shared / "zarr.json").exists()
    tokenize_text(asked, share=TaskShare(0, 3))
    assert TokenStore.open(shared).fingerprint == TokenStore.open(whole).fingerprint
    assert not list(tmp_path.glob("shared.parts/*"))


def test_a_share_that_was_done_makes_nothing_again(model_dir, text_dir, tmp_path):
    asked = settings(model_dir, text_dir, tmp_path / "out")
    tokenize_text(asked, share=TaskShare(1, 2))
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "out.parts").iterdir()}
    assert len(parts) == 4
    tokenize_text(asked, share=TaskShare(1, 2))
    assert parts == {p: p.stat().st_mtime_ns for p in (tmp_path / "out.parts").iterdir()}


def test_a_share_that_comes_late_leaves_a_complete_store_alone(model_dir, text_dir, tmp_path):
    asked = settings(model_dir, text_dir, tmp_path / "out")
    tokenize_text(asked)
    before = np.asarray(TokenStore.open(tmp_path / "out").sequences("train"))
    assert tokenize_text(asked, share=TaskShare(1, 2)).already_done
    after = np.asarray(TokenStore.open(tmp_path / "out").sequences("train"))
    np.testing.assert_array_equal(before, after)
    shutil.rmtree(tmp_path / "out")
