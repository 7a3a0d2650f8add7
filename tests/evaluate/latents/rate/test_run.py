"""From finished indexes to the page: what is checked before it is served."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from scopeworks.evaluate.latents.rate import run as run_module
from scopeworks.evaluate.latents.rate.cli import app as cli
from scopeworks.evaluate.latents.rate.run import prepare
from scopeworks.evaluate.latents.rate.session import read_session
from scopeworks.evaluate.latents.rate.settings import RateSettings
from scopeworks.settings import resolve
from scopeworks.tests.evaluate.latents import made_contents as made

FACTS = (
    {"name": "first-secret", "site": "resid_post.3", "fingerprint": "a" * 16, "l0": 31.25},
    {"name": "second-secret", "site": "mlp_out.1", "fingerprint": "b" * 16, "l0": 77.75},
)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folders = tuple(tmp_path_factory.mktemp(f"index{k}") for k in (0, 1))
    for k, facts in enumerate(FACTS):
        made.write(folders[k], seed=k, **facts)
    return folders[0], folders[1]


def settings(indexes: tuple[Path, ...], out: Path, **more) -> RateSettings:
    return resolve(RateSettings, index=indexes, out=out, rater="ada", n=6, **more)


def test_page_shows_latents_of_both_and_names_neither(indexes: tuple[Path, Path], tmp_path: Path):
    app, session = prepare(settings(indexes, tmp_path / "out"))
    assert read_session(tmp_path / "out") == session
    assert [sae.name for sae in session.saes] == [facts["name"] for facts in FACTS]
    drawn = session.items.values()
    assert len(drawn) == 12 and made.DEAD not in {item.latent for item in drawn}
    there = TestClient(app, base_url="http://127.0.0.1")
    order = there.get("/session").json()["order"]
    cards = [there.get(f"/latents/{number}") for number in order]
    assert all(one.status_code == 200 and one.json()["groups"] for one in cards)
    text = there.get("/session").text + "".join(one.text for one in cards)
    for facts in FACTS:
        assert not [value for value in facts.values() if str(value) in text]
    assert not [path for path in indexes if str(path) in text]


def test_same_command_goes_on(indexes: tuple[Path, Path], tmp_path: Path):
    app, _ = prepare(settings(indexes, tmp_path))
    there = TestClient(app, base_url="http://127.0.0.1")
    first = there.get("/session").json()["order"][0]
    there.post("/answers", json={"item": first, "answer": "maybe"})
    again, _ = prepare(settings(indexes, tmp_path))
    entries = TestClient(again, base_url="http://127.0.0.1").get("/session").json()["entries"]
    assert entries == {first: {"answer": "maybe", "note": "", "flag": False}}


def test_bad_input_is_refused_before_anything_is_written(
    indexes: tuple[Path, Path], tmp_path: Path
):
    out = tmp_path / "out"
    with pytest.raises(OSError, match="does not exist"):
        prepare(settings((tmp_path / "none",), out))
    unfinished = tmp_path / "unfinished"
    (unfinished / "parts").mkdir(parents=True)
    with pytest.raises(OSError, match="must be finished"):
        prepare(settings((indexes[0], unfinished), out))
    with pytest.raises(ValueError, match="different SAEs, got first-secret twice"):
        prepare(settings((indexes[0], indexes[0]), out))
    with pytest.raises(ValueError, match=r"^rater must be 1 to 40 letters.*digit, got '\.\./ada'"):
        resolve(RateSettings, index=indexes, out=out, rater="../ada")
    with pytest.raises(ValueError, match="out must be a local path"):
        resolve(RateSettings, index=indexes, out="gs://bucket/x", rater="ada")
    assert not out.exists()


def test_what_one_of_them_lacks_or_has_more_of_gives_nobody_away(
    indexes: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = tmp_path / "other"
    none = replace(made.directions(80), raised=np.zeros((80, 0), int), raised_by=np.zeros((80, 0)))
    with monkeypatch.context() as patch:
        patch.setattr(made, "directions", lambda *_, **__: none)
        made.write(other, name="no way", fingerprint="c" * 16)
    app, session = prepare(settings((indexes[0], other), tmp_path / "out"))
    there = TestClient(app, base_url="http://127.0.0.1")
    assert all(there.get(f"/latents/{one}").json()["raised"] == [] for one in session.items)
    longer = made.manifest(80, fingerprint="d" * 16)
    longer = longer.model_copy(update={"settings": {"top": 20}})
    monkeypatch.setattr(made, "manifest", lambda *_, **__: longer)
    made.write(other)
    with pytest.raises(ValueError, match=r"same top, .* got None and 20; make one again: .*--top"):
        prepare(settings((indexes[0], other), tmp_path / "again"))


def test_an_index_that_was_made_again_is_refused(indexes: tuple[Path, Path], tmp_path: Path):
    index = tmp_path / "index"
    made.write(index, **FACTS[0])
    prepare(settings((index,), tmp_path / "out"))
    made.write(index, seed=5, **FACTS[0])
    with pytest.raises(ValueError, match="whose indexes differ; ask for the same"):
        prepare(settings((index,), tmp_path / "out"))


def test_command_serves_or_shows_the_table(
    indexes: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    served = []
    monkeypatch.setattr(run_module, "serve", lambda app, there: served.append(there.close()))
    asked = [*map(str, indexes), "--out", str(tmp_path), "--rater", "ada", "--n", "3"]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 0 and len(served) == 1
    assert "rating 6 latents of 2 SAEs: http://127.0.0.1:" in done.output
    assert not [facts["name"] for facts in FACTS if facts["name"] in done.output]
    shown = CliRunner().invoke(cli, ["--table", "--out", str(tmp_path)])
    assert "second-secret" in shown.output and "nobody yet" in shown.output
    refused = CliRunner().invoke(cli, ["--rater", "ada", "--out", str(tmp_path)])
    assert str(refused.exception).startswith("index must be given: a folder that")
    refused = CliRunner().invoke(cli, ["--table", "--out", str(tmp_path), "--rater", "ada"])
    assert str(refused.exception) == "--table must be given --out and nothing else, got rater"


def test_a_port_that_was_not_asked_for_may_be_taken():
    with run_module._listening(None) as first, run_module._listening(None) as second:
        ports = {one.getsockname()[1] for one in (first, second)}
        assert len(ports) == 2
        with pytest.raises(OSError, match=r"must be free, got 127\.0\.0\.1:"):
            run_module._listening(first.getsockname()[1])
