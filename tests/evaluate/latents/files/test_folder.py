"""The folder of an index: what is in it, the same bytes always, and what a reader refuses."""

import base64
import gzip
import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scopeworks.evaluate.latents.files import folder as folder_module
from scopeworks.evaluate.latents.files.counting import counted
from scopeworks.evaluate.latents.files.folder import open_index, write_index
from scopeworks.evaluate.latents.files.records import frame, json_text
from scopeworks.evaluate.latents.files.scripts import IN_SHARDS
from scopeworks.tests.evaluate.latents import made_contents as made

D_SAE = 80


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("index")
    made.write(out, D_SAE)
    return out


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "index")


def test_bands_are_those_that_were_asked_for(tmp_path: Path):
    asked = made.manifest(D_SAE)
    asked = asked.model_copy(update={"settings": asked.settings | {"bands": made.BANDS + 2}})
    contents = made.firings(D_SAE), made.directions(D_SAE)
    written = write_index(tmp_path, asked, *contents, made.decode, np.zeros(D_SAE, np.float32))
    assert written.bands == made.BANDS + 2
    name = open_index(tmp_path).record(0)["examples_quantiles"][1]["quantile_name"]
    assert name == "Firings 0–14.3% from the strongest"


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def argument(script: bytes, name: str) -> list:
    """The arguments that a script calls a function of the page with."""
    text = script.decode().strip()
    assert text.startswith(f"scopeworks.{name}(") and text.endswith(");")
    return json.loads(f"[{text.removeprefix(f'scopeworks.{name}(')[:-2]}]")


def test_files_are_those_that_the_manifest_lists(whole: Path):
    found = files_of(whole)
    listed = json.loads(found.pop("index.json"))["files"]
    assert listed == {name: len(content) for name, content in found.items()}
    assert {"features/layer_3.bin", "data/shards/0001.js", "tables/latents.parquet"} <= set(listed)


def test_equal_contents_give_equal_bytes(whole: Path, tmp_path: Path):
    made.write(tmp_path / "again", D_SAE)
    assert files_of(tmp_path / "again") == files_of(whole)


def test_circuit_tracer_finds_records_by_its_own_index(whole: Path):
    layers = json.loads(gzip.decompress((whole / "features/index.json.gz").read_bytes()))
    offsets = layers["3"]["offsets"]
    content = (whole / "features" / layers["3"]["filename"]).read_bytes()
    index = open_index(whole)
    assert len(offsets) == D_SAE + 1
    for latent in (0, made.DEAD, D_SAE - 1):
        # An HTTP range holds its last byte too, which a reader must not mind.
        part = content[offsets[latent] : offsets[latent + 1] + 1]
        length = int.from_bytes(part[:4], "little")
        assert json.loads(zlib.decompress(part[4 : 4 + length])) == index.record(latent)


def test_an_index_is_indexed_by_latent(whole: Path):
    index = open_index(whole)
    assert len(index) == D_SAE and index[5] == index.page(5) == index[np.int64(5)]  # pyright: ignore[reportArgumentType]
    assert len([page["i"] for page in index]) == D_SAE
    with pytest.raises(IndexError, match=f"latent must be 0 to {D_SAE - 1}, got -1"):
        index[-1]
    for read in (index.record, index.page, index.__getitem__):
        with pytest.raises(ValueError, match="latent must be a whole number, got '5'"):
            read("5")  # pyright: ignore[reportArgumentType]


def test_what_is_no_path_is_no_index():
    with pytest.raises(ValueError, match=r"^folder must be a path, got 5$"):
        open_index(5)  # pyright: ignore[reportArgumentType]


def test_docstrings_name_the_keys_of_records(whole: Path):
    index = open_index(whole)
    for read in (index.record, index.page):
        absent = [key for key in read(5) if f"`{key}`" not in (read.__doc__ or "")]
        assert not absent


def test_page_says_what_was_found(whole: Path):
    firings, page = made.firings(D_SAE), open_index(whole).page(5)
    assert page["fired"] == firings.fired[5]
    assert page["density"] == pytest.approx(firings.fired[5] / made.ROWS, rel=1e-5)
    assert page["mean"] == pytest.approx(firings.total[5] / firings.fired[5], rel=1e-5)
    assert sum(page["histogram"]["counts"]) == firings.fired[5]
    assert page["histogram"]["counts"][-1] > 0
    assert page["theta"] == 0.125
    assert [one[0] for one in page["neighbours"]] == list(range(6, 14))
    assert page["together"] == [[6, 0.25, 0.5], [7, 0.25, 0.5]]
    assert [one[0] for one in page["others"]["wider"]] == [6, 7, 8]
    shares = [share for _, _, share, _ in page["tokens"]]
    assert shares == pytest.approx([1 / page["fired"]] * min(4, page["fired"]), rel=1e-5)


def test_dead_latent_has_empty_lists(whole: Path):
    index = open_index(whole)
    page, record = index.page(made.DEAD), index.record(made.DEAD)
    assert (page["fired"], page["tokens"], page["together"]) == (0, [], [])
    assert (record["examples_quantiles"], record["histogram"]) == ([], [])
    assert index.manifest.n_alive == D_SAE - 1


def test_transcoder_has_neighbours_on_both_sides(tmp_path: Path):
    made.write(tmp_path, 20, site="transcoder_in.2", target_site="mlp_out.2")
    assert len(open_index(tmp_path).page(0)["encoder_neighbours"]) == 8
    assert (tmp_path / "features" / "layer_2.bin").is_file()


def test_scripts_hold_the_records_and_no_markup(whole: Path):
    index = open_index(whole)
    k, text = argument((whole / "data/shards/0001.js").read_bytes(), "shard")
    shard = json.loads(zlib.decompress(base64.b64decode(text)))
    assert k == 1
    assert shard["pages"] == [index.page(i) for i in range(64, D_SAE)]
    for i, found in enumerate(shard["features"], start=64):
        record = index.record(i)
        assert found.keys() == set(IN_SHARDS) and found["act_max"] == record["act_max"]
        assert len(found["examples_quantiles"]) == len(record["examples_quantiles"])
        for mine, band in zip(
            found["examples_quantiles"], record["examples_quantiles"], strict=True
        ):
            for example, said in zip(mine["examples"], band["examples"], strict=True):
                values = said.pop("tokens_acts_list")
                assert example.pop("tokens_acts_list") == pytest.approx(values, rel=1e-3)
                assert example == said
    scripts = [path.read_bytes() for path in sorted((whole / "data").rglob("*.js"))]
    assert not any(b"<" in script for script in scripts)
    search = argument((whole / "data/search/00.js").read_bytes(), "search")[1]
    assert any(made.HTML in text for texts in search["context"] for text in texts)
    assert search["fired"] == made.firings(D_SAE).fired.tolist()


def test_map_is_in_sixteen_bits(whole: Path):
    (places,) = argument((whole / "data/map.js").read_bytes(), "map")
    x = np.frombuffer(base64.b64decode(places["x"]), "<u2") / 65535
    np.testing.assert_allclose(x, made.directions(D_SAE).map[:, 0], atol=1e-5)


def test_manifest_script_says_what_the_manifest_says(whole: Path):
    (script,) = argument((whole / "data/manifest.js").read_bytes(), "manifest")
    manifest = json.loads((whole / "index.json").read_text())
    manifest["files"].pop("data/manifest.js")
    assert script == manifest


def test_narrower_index_leaves_nothing_of_the_wider_one(whole: Path, copy: Path, tmp_path: Path):
    made.write(copy, 20)
    made.write(tmp_path / "fresh", 20)
    assert files_of(copy) == files_of(tmp_path / "fresh")


def test_static_page_is_written_and_not_listed(tmp_path: Path):
    page = {"index.html": b"<p>", "app/app.js": b"1"}
    contents = (made.manifest(8), made.firings(8), made.directions(8), made.decode, np.zeros(8))
    manifest = write_index(tmp_path, *contents, page_files=page)
    assert (tmp_path / "app" / "app.js").read_bytes() == b"1"
    assert not {"index.html", "app/app.js"} & set(manifest.files)
    open_index(tmp_path)


def test_without_pyarrow_there_are_no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder_module.tables, "available", lambda: False)
    made.write(tmp_path, 8)
    assert not (tmp_path / "tables").exists()
    assert open_index(tmp_path).page(1)["i"] == 1


def test_killed_writer_leaves_what_a_reader_refuses(copy: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr(folder_module.scripts, "plane", fails)
    with pytest.raises(OSError, match="no space left"):
        made.write(copy, D_SAE, seed=1)
    with pytest.raises(FileNotFoundError, match="must be finished, got none or a part of one"):
        open_index(copy)


def test_counted_finds_filler_doubles_and_masked_tokens(whole: Path, tmp_path: Path):
    clean = counted(open_index(whole))
    assert clean["examples"] > 500
    # The made-up strongest are shown in a band again under other tokens: no doubles.
    assert (clean["filler"], clean["doubles"], clean["masked"]) == (0, 0, 0)
    firings, directions = made.firings(8), made.directions(8)
    tokens, f = firings.examples.tokens.copy(), firings.examples.f.copy()
    tokens[1], f[2] = tokens[0], 0
    bad = replace(firings, examples=replace(firings.examples, tokens=tokens, f=f))
    texts = {int(directions.raised[0, 0]): "<unused12>", int(directions.lowered[0, 0]): "<0xE2>"}
    write_index(
        tmp_path, made.manifest(8), bad, directions,
        lambda ids: [texts.get(i, f"t{i}") for i in ids], np.zeros(8),
    )  # fmt: skip
    found = counted(open_index(tmp_path))
    assert (found["filler"], found["doubles"]) == (1, 1)
    assert found["masked"] >= 2


def _cut(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-2])

    return change


def _manifest(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def _swapped_offsets(folder: Path) -> None:
    path = folder / "data/pages.idx"
    offsets = np.fromfile(path, "<u8")
    offsets[[1, 2]] = offsets[[2, 1]]
    offsets.tofile(path)


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (shutil.rmtree, FileNotFoundError, "which does not exist"),
        (lambda folder: (folder / "index.json").unlink(), FileNotFoundError, "must be finished"),
        (_cut("features/layer_3.bin"), ValueError, r"layer_3.bin must have [\d,]+ bytes, got"),
        (_cut("data/shards/0000.js"), ValueError, r"0000.js must have [\d,]+ bytes, got"),
        (lambda f: (f / "data/pages.bin").unlink(), FileNotFoundError, "is missing, though"),
        (_manifest(version="2.0"), ValueError, "must be of version 1.0, got '?2.0"),
        (_manifest(format="token-store"), ValueError, "must be the manifest of a latents-index"),
        (_manifest(files={}), ValueError, "must list data/pages.bin, got no such file"),
        (_manifest(files={"../x": 1}), ValueError, "does not hold what it must: files"),
        (_cut("index.json"), ValueError, "index.json is not valid JSON"),
        (_swapped_offsets, ValueError, "must divide the"),
    ],
)  # fmt: skip
def test_damaged_index_is_refused_in_one_line(
    copy: Path, harm: Callable[[Path], None], error: type[Exception], message: str
):
    harm(copy)
    with pytest.raises(error, match=message) as caught:
        open_index(copy)
    assert "\n" not in str(caught.value)


def test_offsets_of_another_width_are_refused(copy: Path):
    manifest = json.loads((copy / "index.json").read_text())
    manifest["sae"]["d_sae"] = D_SAE + 1
    (copy / "index.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="must hold 82 offsets of 8 bytes, got 648 bytes"):
        open_index(copy)


@pytest.mark.parametrize("at", [0, 4, 30])
def test_damaged_record_is_named_when_it_is_read(copy: Path, at: int):
    path = copy / "data/pages.bin"
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    index = open_index(copy)
    with pytest.raises(ValueError, match=r"latent 0 in .*pages\.bin is damaged: .*; make"):
        index.page(0)
    assert index.page(1)["i"] == 1


def test_latent_outside_is_refused(whole: Path):
    with pytest.raises(IndexError, match="latent must be 0 to 79, got 80"):
        open_index(whole).page(80)


def test_record_that_inflates_without_end_is_refused(copy: Path):
    bomb = frame(json_text(" " * 2**25))
    (copy / "data/pages.bin").write_bytes(bomb)
    np.array([0, len(bomb)], "<u8").tofile(copy / "data/pages.idx")
    manifest = json.loads((copy / "index.json").read_text())
    manifest["files"] |= {"data/pages.bin": len(bomb), "data/pages.idx": 16}
    features = (copy / "data/features.idx").read_bytes()
    end = np.frombuffer(features, "<u8")[1]
    layer = copy / "features/layer_3.bin"
    layer.write_bytes(layer.read_bytes()[:end])
    (copy / "data/features.idx").write_bytes(features[:16])
    manifest["files"] |= {"features/layer_3.bin": int(end), "data/features.idx": 16}
    manifest["sae"]["d_sae"] = 1
    (copy / "index.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="its end is missing, or it is too large"):
        open_index(copy).page(0)
