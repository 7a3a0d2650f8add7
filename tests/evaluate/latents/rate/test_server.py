"""The page's server: what it gives, what it keeps, and what it never says."""

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from scopeworks.evaluate.latents.rate.answers import AnswerFile
from scopeworks.evaluate.latents.rate.card import card
from scopeworks.evaluate.latents.rate.server import FILES, application
from scopeworks.tests.evaluate.latents.rate.cases import NAMES, SAES, a_session, page, record


def client(folder: Path, card_of=None, host: str = "127.0.0.1") -> TestClient:
    session = a_session()
    kept = AnswerFile(folder / "ada.jsonl", session.items)
    app = application(
        "ada", session.order("ada"), kept, card_of or (lambda _: card(record(), page()))
    )
    return TestClient(app, base_url=f"http://{host}")


def test_order_answers_and_resume(tmp_path: Path):
    there = client(tmp_path)
    got = there.get("/session").json()
    assert got["rater"] == "ada" and len(got["order"]) == 24 and got["entries"] == {}
    first, second = got["order"][:2]
    kept = there.post("/answers", json={"item": first, "answer": "maybe"})
    assert kept.json() == {"answer": "maybe", "note": "", "flag": False}
    there.post("/answers", json={"item": first, "note": "verbs?", "flag": True})
    there.post("/answers", json={"item": second, "answer": "no"})
    again = client(tmp_path).get("/session").json()
    assert again["order"] == got["order"]
    assert again["entries"] == {
        first: {"answer": "maybe", "note": "verbs?", "flag": True},
        second: {"answer": "no", "note": "", "flag": False},
    }


def test_nothing_over_the_wire_tells_the_sae(tmp_path: Path):
    there = client(tmp_path)
    order = there.get("/session").json()["order"]
    addresses = [*FILES, "/session", *(f"/latents/{n}" for n in order)]
    answers = [there.get(one) for one in addresses]
    answers.append(there.post("/answers", json={"item": order[0], "answer": "yes"}))
    answers.append(there.post("/answers", json={"item": order[0], "answer": "never"}))
    answers.append(there.get("/latents/999"))
    broken = client(tmp_path, lambda _: record()["resid_post.3-secret"])
    answers.append(broken.get(f"/latents/{order[0]}"))
    assert [one.status_code for one in answers[-3:]] == [400, 404, 500]
    said = b"".join(one.content + str(one.headers.raw).encode() for one in answers).decode()
    for sae in SAES:
        for secret in (*NAMES, sae.site, sae.model, sae.fingerprint, sae.index, str(sae.l0)):
            assert secret not in said
    for secret in ("83", "41.5", "0.0123", "123", "7.77", "3.3", str(tmp_path)):
        assert secret not in there.get(f"/latents/{order[0]}").text


def test_card_shows_shares_of_the_largest():
    got = card(record(), page())
    assert [len(group) for group in got["groups"]] == [12, 3]
    assert got["groups"][0][0] == {
        "tokens": ["def", " <b>f</b>", "(\n", "x"],
        "shares": [0.0, 0.5, 1.0, 0.0],
        "peak": 2,
    }
    assert got["raised"] == [" return", "\n"]
    assert got["histogram"] == {"width": 0.386, "counts": [0.5, 1.0, 0.25]}


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"item": "01", "answer": "yes"}', "text/plain", 415),
        (b"{", "application/json", 400),
        (b'{"item": "01", "answer": 3}', "application/json", 400),
        (b'{"item": "99", "answer": "yes"}', "application/json", 404),
        (b'{"item": "../x", "answer": "yes"}', "application/json", 404),
        (json.dumps({"item": "01", "note": "x" * 2001}).encode(), "application/json", 400),
        (b" " * 30_000, "application/json", 413),
    ],
)
def test_odd_answers_are_refused(tmp_path: Path, body: bytes, kind: str, status: int):
    there = client(tmp_path)
    got = there.post("/answers", content=body, headers={"Content-Type": kind})
    assert got.status_code == status and got.json()["error"]
    assert not (tmp_path / "ada.jsonl").exists()


def test_answers_that_cannot_be_written_say_so(tmp_path: Path):
    folder = tmp_path / "gone"
    folder.mkdir()
    there = client(folder)
    folder.rmdir()
    got = there.post("/answers", json={"item": "01", "answer": "yes"})
    assert got.status_code == 507 and "No such file" in got.json()["error"]
    assert str(tmp_path) not in got.text


def test_other_hosts_are_refused(tmp_path: Path):
    assert client(tmp_path, host="evil.example").get("/session").status_code == 400
    assert client(tmp_path, host="localhost").get("/session").status_code == 200
