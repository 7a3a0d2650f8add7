"""`scopeworks store`: what it prints and how it ends."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scopeworks.store import ActivationStore
from scopeworks.store.cli import CopyOptions, app


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_info_names_sites_rows_and_normaliser(made):
    text = run("info", made.url)
    store = ActivationStore.open(made.url)
    assert "700 of 700 rows (complete), codec exact" in text
    assert f"mlp_out.0: d 7, {store.stored_bytes['sites/mlp_out.0'] / 1024:.3g} KiB" in text
    assert f"C {store.normaliser('mlp_out.0'):.6g}" in text


def test_info_of_several_says_what_they_are_joined(made, tmp_path):
    copied = tmp_path / "b"
    run("copy", made.url, str(copied))
    text = run("info", made.url, str(copied))
    assert text.count("700 of 700 rows (complete), codec exact") == 2
    assert "\njoined: 700 of 700 rows (complete) of " in text
    with pytest.raises(FileNotFoundError, match="no activation store at"):
        run("info", made.url, str(tmp_path))


def test_verify_ends_with_0_or_lists_what_is_damaged(fresh):
    assert "4 of 4 buckets committed" in run("verify", fresh.url)
    path = Path(fresh.url, "labels/token/c/0")
    path.write_bytes(path.read_bytes()[:-1])
    text = run("verify", fresh.url, code=1)
    assert "token: shard 0" in text


def test_verify_withdraws_damaged_buckets_when_asked(fresh):
    path = Path(fresh.url, "labels/token/c/0")
    path.write_bytes(path.read_bytes()[:-1])
    assert "withdrawn" not in run("verify", fresh.url, code=1)
    text = run("verify", fresh.url, "--withdraw", code=1)
    assert "withdrawn: bucket 0; run the harvest again" in text
    assert ActivationStore.open(fresh.url).rows == 700 - 192


def test_verify_removes_shards_without_a_commit_when_asked(fresh):
    Path(fresh.url, "commits/00000001/zarr.json").unlink()
    text = run("verify", fresh.url)
    assert "note: bucket 1 has data (15 shards) but no commit record" in text
    assert "3 of 4 buckets committed" in text
    with pytest.raises(ValueError, match="no object younger than an hour"):
        run("verify", fresh.url, "--clean")
    for path in Path(fresh.url).rglob("*"):
        os.utime(path, (0, 0))
    text = run("verify", fresh.url, "--clean")
    assert "removed: 15 shards of bucket 1, which has no commit" in text
    assert "note" not in text


def test_stats_prints_every_site_and_the_mixing(made):
    text = run("stats", made.url)
    assert "mlp_out.0: norm" in text
    assert "resid_post.1: norm" in text
    assert "mixing: " in text


def test_stats_draws_a_plot(made, tmp_path):
    text = run("stats", made.url, "--site", "mlp_out.0", "--plot", str(tmp_path / "a.png"))
    assert f"plot: {tmp_path / 'a.png'}" in text
    assert (tmp_path / "a.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match=r"plot must end in \.png"):
        run("stats", made.url, "--plot", str(tmp_path / "a.gif"))


def test_copy_says_what_it_did(made, tmp_path):
    text = run("copy", made.url, str(tmp_path / "b"), "--codec", "fast")
    assert "700 rows copied" in text
    assert ActivationStore.open(tmp_path / "b").spec.codec == "fast"


def test_copy_tells_the_options_of_source_and_target_apart(made):
    described = {name: field.description for name, field in CopyOptions.model_fields.items()}
    assert described["storage_options"] == (
        "Options of the source's file system, as fsspec takes them."
    )
    with pytest.raises(ValueError, match=f"no effect on the local path {made.url}"):
        run("copy", made.url, "memory://copied", "--storage-option", "key=1")
    secret = CopyOptions(url="gs://a/b", target="s3://c/d", target_options={"key": "secret"})
    assert "secret" not in f"{secret!r} {secret.model_dump()}"


def test_a_missing_store_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no activation store at"):
        run("info", str(tmp_path))
