"""The server: ranges, conditions, headers, and what it refuses."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from scopeworks.evaluate.latents.explorer.folders import served_indexes
from scopeworks.evaluate.latents.explorer.serving import application
from scopeworks.evaluate.latents.explorer.static_page import place_page
from scopeworks.tests.evaluate.latents import made_contents

HOST = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("indexes")
    for name, d_sae in (("first", 40), ("second", 24)):
        made_contents.write(root / name, d_sae, name=f"<i>{name}</i>")
        place_page(root / name)
    (root / "secret").write_text("secret")
    (root / "first" / "ratings").mkdir()
    (root / "first" / "ratings" / "ada.jsonl").write_text("{}")
    (root / "first" / "data" / "link.js").symlink_to(root / "secret")
    return [root / "first", root / "second"]


def client(folders: list[Path], **given) -> TestClient:
    app = application(served_indexes(folders), **given)
    return TestClient(app, base_url=HOST, follow_redirects=False)


def test_ranges_of_records(folders: list[Path]):
    there, path = client(folders), folders[0] / "data" / "pages.bin"
    whole = path.read_bytes()
    got = there.get("/first/data/pages.bin", headers={"Range": "bytes=10-99"})
    assert got.status_code == 206 and got.content == whole[10:100]
    assert got.headers["content-range"] == f"bytes 10-99/{len(whole)}"
    beyond = there.get("/first/data/pages.bin", headers={"Range": f"bytes={len(whole)}-"})
    assert beyond.status_code == 416
    assert there.get("/first/data/pages.bin").content == whole


def test_what_is_unchanged_is_not_sent_again(folders: list[Path]):
    there = client(folders)
    got = there.get("/first/data/map.js")
    assert got.headers["cache-control"] == "no-cache"
    assert got.headers["content-type"] == "text/javascript; charset=utf-8"
    again = there.get("/first/data/map.js", headers={"If-None-Match": got.headers["etag"]})
    assert again.status_code == 304 and again.content == b""
    stale = {"Range": "bytes=0-3", "If-Range": '"older"'}
    assert there.get("/first/data/map.js", headers=stale).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/first/", "/", "/first/none", "/nowhere", "/first/data/pages.bin", "/first/served.js"],
)
def test_every_answer_carries_the_headers(folders: list[Path], path: str):
    got = client(folders).get(path).headers
    assert "frame-ancestors 'none'" in got["content-security-policy"]
    assert got["x-content-type-options"] == "nosniff" and got["x-frame-options"] == "DENY"
    assert got["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        "/first/../secret",
        "/first/%2e%2e/secret",
        "/first/data/%2e%2e/%2e%2e/secret",
        "/first/data/..%2f..%2fsecret",
        "/first//etc/passwd",
        "/first/data//etc/passwd",
        "/first/data/link.js",
        "/first/data/%00",
        "/first/data",
        "/first/data/" + "x" * 5000,
        "/first/ratings/ada.jsonl",
        "/first/.git/config",
        "/secret",
    ],
)
def test_nothing_outside_an_index_is_given(folders: list[Path], path: str):
    got = client(folders).get(path)
    assert got.status_code == 404, got.text
    assert "secret" not in got.text and str(folders[0]) not in got.text


def test_only_reading_is_answered(folders: list[Path]):
    there = client(folders)
    assert there.post("/first/index.json").status_code == 405
    assert there.put("/first/data/map.js").status_code == 405
    assert there.head("/first/data/map.js").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "127.0.0.2"])
def test_another_name_for_this_server_is_refused(folders: list[Path], host: str):
    got = client(folders).get("/first/index.json", headers={"Host": host})
    assert got.status_code == 400 and "d_sae" not in got.text


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000"])
def test_names_of_this_machine_are_answered(folders: list[Path], host: str):
    there = client(folders)
    assert there.get("/first/index.json", headers={"Host": host}).status_code == 200
    anywhere = client(folders, hosts=None)
    assert anywhere.get("/first/index.json", headers={"Host": "box"}).status_code == 200


def test_the_start_page_lists_indexes_as_text(folders: list[Path]):
    page = client(folders).get("/").text
    assert "&lt;i&gt;first&lt;/i&gt;" in page and "<i>" not in page
    assert 'href="first/"' in page and 'href="second/"' in page
    alone = client(folders[:1]).get("/")
    assert alone.status_code == 307 and alone.headers["location"] == "/first/"


def test_the_page_is_told_what_is_served_beside_it(folders: list[Path]):
    said = client(folders).get("/second/served.js").text
    assert '"fingerprint": "0000000000000000"' in said
    assert '"folder": "first"' in said and '"playground": false' in said and "<" not in said
    bare = client(folders).get("/second")
    assert bare.status_code == 307 and bare.headers["location"].endswith("/second/")


def test_an_index_without_a_page_is_shown_too(tmp_path: Path):
    made_contents.write(tmp_path / "bare", 8)
    there = client([tmp_path / "bare"])
    assert "<main" in there.get("/bare/").text
    assert "scopeworks.explanations({})" in there.get("/bare/data/explanations.js").text
    (tmp_path / "bare" / "data" / "explanations.js").write_text("scopeworks.explanations({1: 2})")
    assert "1: 2" in there.get("/bare/data/explanations.js").text


def test_names_of_folders_become_addresses(tmp_path: Path):
    paths = [tmp_path / "a" / "width 1{k}", tmp_path / "b" / "width 1{k}", tmp_path / "c"]
    for path in paths:
        made_contents.write(path, 8)
    names = [one.name for one in served_indexes(paths)]
    assert names == ["a-width-1-k", "b-width-1-k", f"{tmp_path.name}-c"]
    there = client(paths)
    assert [there.get(f"/{name}/index.json").status_code for name in names] == [200] * 3


def test_folders_that_cannot_be_served(tmp_path: Path):
    made_contents.write(tmp_path / "index", 8)
    with pytest.raises(ValueError, match="every index must be given once"):
        served_indexes([tmp_path / "index", tmp_path / "x" / ".." / "index"])
    with pytest.raises(FileNotFoundError, match="nothing, which does not exist"):
        served_indexes([tmp_path / "nothing"])
    (tmp_path / "index" / "index.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"must be finished, got none or a part of one"):
        served_indexes([tmp_path / "index"])
