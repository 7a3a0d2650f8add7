"""Text in buckets, against emulators: listed as on a disk, and never another than was listed."""

from typing import Any

import fsspec
import pytest

from scopeworks.harvest.text.documents import RowOptions, read_documents
from scopeworks.harvest.text.sources import expand
from scopeworks.tests.store.clouds import (
    BUCKET,
    gcs_emulator,
    gcs_options,
    s3_emulator,
    s3_options,
)

NAMES = (
    "a.txt",
    "b/c.txt",
    "b/.hidden.txt",
    ".deep/d.txt",
    "x[1].txt",
    "x1.txt",
    "e.csv",
    "b/0/z.md",
)


@pytest.fixture(scope="module", params=["gs", "s3"])
def bucket(request):
    """(URL, options, file system) of a bucket that holds `NAMES`."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "gs":
            pytest.importorskip("gcp_storage_emulator")
            # gcsfs 2026 otherwise asks a real service whether the bucket is hierarchical.
            patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
            with gcs_emulator() as port:
                patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
                yield filled(f"gs://{BUCKET}", gcs_options(port))
        else:
            pytest.importorskip("moto")
            with s3_emulator() as port:
                yield filled(f"s3://{BUCKET}", s3_options(port))


def filled(url: str, options: dict[str, Any]) -> tuple[str, dict[str, Any], Any]:
    files = fsspec.url_to_fs(url, **options)[0]
    for name in NAMES:
        files.pipe_file(f"{BUCKET}/{name}", name.encode())
    return url, options, files


@pytest.mark.emulator
def test_a_bucket_is_listed_and_read_as_a_folder_is(bucket, tmp_path):
    url, options, _ = bucket
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for pattern in (
        "",
        "/b",
        "/*",
        "/**",
        "/**/*.txt",
        "/*/c.txt",
        "/b/.h*",
        "/x[1].txt",
        "/x[12]*",
    ):
        here = [d.text for d in read_documents([f"{tmp_path}{pattern}"])]
        there = read_documents([f"{url}{pattern}"], RowOptions(storage=options))
        assert [d.text for d in there] == here, pattern
    assert len(expand([f"{url}/a.txt", url, f"{url}/**/*.txt"], options)) == 5


@pytest.mark.emulator
def test_an_object_that_is_replaced_while_it_is_read_is_named(bucket):
    url, options, files = bucket
    rows = b'{"text": "some words of a row"}\n'
    files.pipe_file(f"{BUCKET}/rows/a.jsonl", rows * 9)
    try:
        documents = read_documents([f"{url}/rows"], RowOptions(storage=options))
        assert next(documents).text == "some words of a row"
        files.pipe_file(f"{BUCKET}/rows/a.jsonl", rows * 99)
        with pytest.raises(OSError, match=r"text .*rows/a\.jsonl was changed while it was read"):
            list(documents)
    finally:
        files.rm_file(f"{BUCKET}/rows/a.jsonl")


@pytest.mark.emulator
def test_an_object_that_is_replaced_after_it_was_listed_is_named(bucket):
    url, options, files = bucket
    files.pipe_file(f"{BUCKET}/late/a.txt", b"short")
    try:
        documents = read_documents([f"{url}/late"], RowOptions(storage=options))
        files.pipe_file(f"{BUCKET}/late/a.txt", b"much longer than it was")
        with pytest.raises(OSError, match=r"text .*late/a\.txt was changed while it was read"):
            list(documents)
    finally:
        files.rm_file(f"{BUCKET}/late/a.txt")
