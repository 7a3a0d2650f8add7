"""Data sets of the hub, read here from a local folder, which `datasets` opens the same way."""

import json

import pytest

from scopeworks.harvest.text import hub
from scopeworks.harvest.text.documents import RowOptions, read_documents


class Stream:
    """What `datasets` streams, with a connection that breaks."""

    def __init__(self, n: int, breaks: list[int], error: type[Exception] = ConnectionError):
        self.n, self.breaks, self.position, self.error = n, breaks, 0, error

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]

    def __iter__(self):
        while self.position < self.n:
            if self.breaks and self.position == self.breaks[0]:
                self.breaks.pop(0)
                raise self.error("reset by peer")
            self.position += 1
            yield {"text": f"row {self.position}"}


def test_broken_connections_lose_and_double_no_row(monkeypatch):
    monkeypatch.setattr(hub, "_opened", lambda _path: Stream(9, [0, 4, 4, 8]))
    monkeypatch.setattr(hub.time, "sleep", lambda _s: None)
    texts = [d.text for d in read_documents(["hf:some/set"])]
    assert texts == [f"row {i}" for i in range(1, 10)]


def test_a_connection_that_stays_broken_is_an_error(monkeypatch):
    monkeypatch.setattr(hub, "_opened", lambda _path: Stream(9, [3] * 99))
    monkeypatch.setattr(hub.time, "sleep", lambda _s: None)
    with pytest.raises(OSError, match="hf:some/set cannot be read any further: reset by peer"):
        list(read_documents(["hf:some/set"]))


def test_a_connection_may_break_with_an_error_that_is_no_oserror(monkeypatch):
    read_error = type("ReadError", (Exception,), {"__module__": "httpx2"})
    monkeypatch.setattr(hub, "_opened", lambda _path: Stream(9, [3], read_error))
    monkeypatch.setattr(hub.time, "sleep", lambda _s: None)
    assert len(list(read_documents(["hf:some/set"]))) == 9


def test_what_is_no_broken_connection_is_an_error_at_once(monkeypatch):
    monkeypatch.setattr(hub, "_opened", lambda _path: Stream(9, [3], KeyError))
    monkeypatch.setattr(hub.time, "sleep", lambda _s: pytest.fail("tries again"))
    with pytest.raises(OSError, match="hf:some/set cannot be read any further: 'reset by peer'"):
        list(read_documents(["hf:some/set"]))


def test_datasets_of_a_folder_are_read_with_their_subsets(tmp_path):
    pytest.importorskip("datasets")
    rows = [{"body": f"text {i}", "kind": f"k{i % 2}"} for i in range(5)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    documents = list(read_documents([f"hf:{tmp_path}@train"], RowOptions("body", "kind")))
    assert [(d.text, d.subset) for d in documents] == [(r["body"], r["kind"]) for r in rows]


def test_a_dataset_that_is_not_there_is_an_error(tmp_path):
    pytest.importorskip("datasets")
    with pytest.raises(OSError, match="cannot be opened"):
        list(read_documents([f"hf:{tmp_path}/nowhere"]))
