"""The playground's requests: who may ask, bounds, errors as JSON, one at a time."""

import threading
import time
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from scopeworks.evaluate.latents.explorer import api
from scopeworks.evaluate.latents.explorer.api import playground_api

ORIGIN = "http://127.0.0.1:8000"
OWN = {"Origin": ORIGIN}


class Pretending:
    """A playground that notes what runs at the same time."""

    def __init__(self, fails: Exception | None = None):
        self.running, self.most, self.fails = 0, 0, fails

    def tokens(self, asked: Any) -> dict[str, Any]:
        self.running += 1
        self.most = max(self.most, self.running)
        time.sleep(0.01)
        self.running -= 1
        if self.fails:
            raise self.fails
        return {"tokens": [asked.text]}

    def text(self, asked: Any) -> dict[str, Any]:
        return {"n": asked.n_tokens, "edits": len(asked.edits)}


def client(fails: Exception | None = None) -> TestClient:
    return TestClient(playground_api(cast(Any, Pretending(fails))), base_url=ORIGIN)


def test_answers():
    there = client()
    got = there.post("/tokens", json={"text": "ab"}, headers=OWN)
    assert got.json() == {"tokens": ["ab"]} and got.headers["cache-control"] == "no-store"
    edits = [{"latent": 1, "kind": "off"}]
    got = there.post("/continue", json={"text": "ab", "edits": edits}, headers=OWN)
    assert got.json() == {"n": 20, "edits": 1}


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "https://127.0.0.1"}],
)
def test_another_sites_page_is_refused(headers: dict[str, str]):
    got = client().post("/tokens", json={"text": "ab"}, headers=headers)
    assert got.status_code == 403 and "Origin" in got.json()["error"]


def test_what_a_foreign_form_can_send_is_refused():
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {**OWN, "Content-Type": kind}
        got = client().post("/tokens", content=b'{"text": "ab"}', headers=headers)
        assert got.status_code == 415 and "error" in got.json()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"text": 1}', b'{"text": "' + b"a" * 4001 + b'"}', b'{"text": NaN}'],
)
def test_nonsense_is_named_in_one_line(body: bytes):
    headers = {**OWN, "Content-Type": "application/json"}
    got = client().post("/tokens", content=body, headers=headers)
    assert got.status_code == 400
    assert got.json()["error"].startswith("the request") and "\n" not in got.json()["error"]


def test_a_request_that_is_too_large_is_not_read_to_its_end():
    headers = {**OWN, "Content-Type": "application/json"}
    got = client().post("/tokens", content=b" " * (api.MOST_BYTES + 1), headers=headers)
    assert got.status_code == 413
    assert client().get("/tokens", headers=OWN).status_code == 405


def test_errors_are_json():
    bad = client(ValueError("text must have 1 to 512 tokens, got 600"))
    got = bad.post("/tokens", json={"text": "a"}, headers=OWN)
    assert (got.status_code, got.json()["error"]) == (
        400,
        "text must have 1 to 512 tokens, got 600",
    )
    full = client(RuntimeError("out of memory\nat a place"))
    got = full.post("/tokens", json={"text": "a"}, headers=OWN)
    assert (got.status_code, got.json()["error"]) == (500, "out of memory")


def test_one_at_a_time_and_few_wait():
    pretending, codes = Pretending(), []
    there = TestClient(playground_api(cast(Any, pretending)), base_url=ORIGIN)
    with there:  # one event loop for all
        threads = [
            threading.Thread(
                target=lambda: codes.append(
                    there.post("/tokens", json={"text": "a"}, headers=OWN).status_code
                )
            )
            for _ in range(24)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert pretending.most == 1
    assert len(codes) == 24 and set(codes) <= {200, 503} and codes.count(200) >= api.MOST_WAITING
