"""The bytes on disk against other readers: zarr-python, Dask and TensorStore."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scopeworks.store import ActivationStore
from scopeworks.tests.store.making import SITES, make_store

ARRAYS = [*(f"sites/{site}" for site in SITES), "labels/token", "labels/sequence"]


def own(url: str, path: str) -> np.ndarray:
    store, name = ActivationStore.open(url), path.rpartition("/")[2]
    if path.startswith("sites/"):
        return store.read(name, 0, store.rows).numpy()
    return getattr(store.labels(0, store.rows), name)


@pytest.fixture(scope="module", params=["exact", "fast", "float32"])
def url(request, tmp_path_factory) -> str:
    return make_store(tmp_path_factory.mktemp(request.param) / "acts", codec=request.param).url


@pytest.mark.parametrize("path", ARRAYS)
def test_plain_zarr_reads_the_same_values(url, path):
    import zarr

    array: Any = zarr.open_group(url, mode="r")[path]
    np.testing.assert_array_equal(np.asarray(array[:]).astype(np.float32), own(url, path))


@pytest.mark.parametrize("path", ARRAYS)
def test_dask_reads_the_same_values(url, path):
    import dask.array

    array = dask.array.from_zarr(f"{url}/{path}")
    np.testing.assert_array_equal(array.compute().astype(np.float32), own(url, path))


@pytest.mark.parametrize("path", ARRAYS)
def test_tensorstore_reads_the_same_values(url, path):
    import tensorstore

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{url}/{path}/"}}
    array = tensorstore.open(spec, read=True).result()
    np.testing.assert_array_equal(array.read().result().astype(np.float32), own(url, path))


@pytest.mark.parametrize(
    ("imported", "opened"),
    [
        ("zarr", "zarr.open_group(url, mode='r')[path]"),
        ("zarr, dask.array", "dask.array.from_zarr(zarr.open_group(url, mode='r')[path])"),
        ("zarr, scopeworks.store.format.bfloat16", "zarr.open_array(f'{url}/{path}', mode='r')"),
        ("dask.array, scopeworks.store.format.bfloat16", "dask.array.from_zarr(f'{url}/{path}')"),
    ],
)
def test_a_fresh_process_reads_bfloat16_as_the_format_page_says(made, imported, opened):
    code = (
        f"import {imported}\n"
        f"url, path = {made.url!r}, 'sites/mlp_out.0'\n"
        f"array = {opened}\n"
        "print(array.dtype, array.shape)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"bfloat16 ({made.spec.rows}, 7)"


def test_zarr_lists_the_whole_hierarchy_without_a_warning(made):
    import zarr

    members = dict(zarr.open_group(made.url, mode="r").members(max_depth=None))
    assert {f"sites/{site}" for site in SITES} < members.keys()
    record: Any = members["commits/00000003"].attrs["scopeworks"]
    assert record["rows"] == 700 - 3 * 192


def test_zarr_rewrites_the_array_metadata_to_the_same_meaning(made):
    import zarr

    path = Path(made.url, "sites", "mlp_out.0", "zarr.json")
    ours = json.loads(path.read_text())
    theirs = zarr.open_array(path.parent, mode="r").metadata.to_dict()
    theirs = json.loads(json.dumps(theirs, default=str))
    for key in ("shape", "chunk_grid", "chunk_key_encoding", "node_type", "zarr_format"):
        assert ours[key] == theirs[key]
    assert [c["name"] for c in ours["codecs"]] == [c["name"] for c in theirs["codecs"]]


def test_values_are_the_rows_rounded_to_bfloat16_in_the_permuted_order(made):
    from scopeworks.tests.reference.store_order import stored_rows

    store = ActivationStore.open(made.url)
    for bucket in range(made.spec.n_buckets):
        start, stop = made.spec.bucket_range(bucket)
        standing = torch.tensor(stored_rows(stop - start, made.spec.seed, bucket)) + start
        for site in SITES:
            expected = made.rows[site][standing].to(torch.bfloat16).float()
            assert torch.equal(store.read(site, start, stop), expected)


def test_newer_major_version_is_refused(fresh):
    root = Path(fresh.url, "zarr.json")
    root.write_text(root.read_text().replace('"version": "1.0"', '"version": "2.0"'))
    with pytest.raises(ValueError, match=r"must have format version 1.x, got 2.0"):
        ActivationStore.open(fresh.url)


def test_newer_minor_version_is_read_without_what_is_not_known(fresh):
    from scopeworks.store.format.spec import checksum

    root = Path(fresh.url, "zarr.json")
    document = json.loads(root.read_text())
    attributes = document["attributes"]["scopeworks"]
    del attributes["crc32c"]
    attributes["version"], attributes["colour"] = "1.1", "green"
    attributes["spec"]["compass"] = "north"
    attributes["crc32c"] = checksum(attributes)
    root.write_text(json.dumps(document))
    assert ActivationStore.open(fresh.url).rows == fresh.spec.rows


def test_damaged_root_document_is_refused(fresh):
    root = Path(fresh.url, "zarr.json")
    root.write_text(root.read_text().replace('"rows": 700', '"rows": 900'))
    with pytest.raises(ValueError, match=r"the checksum in its zarr.json is wrong"):
        ActivationStore.open(fresh.url)
