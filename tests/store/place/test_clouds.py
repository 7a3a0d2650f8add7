"""One contract for every place a store can be: local, memory, Google Cloud Storage, S3."""

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from scopeworks.store import ActivationStore, StoreWriter, TokenStore
from scopeworks.store.place.locate import locate
from scopeworks.store.place.location import Location
from scopeworks.store.place.place import Place
from scopeworks.store.place.remote import attempt
from scopeworks.store.tools.verify import verify_store
from scopeworks.tests.store.clouds import (
    BUCKET,
    Faults,
    faulty_proxy,
    gcs_emulator,
    gcs_options,
    s3_emulator,
    s3_options,
)
from scopeworks.tests.store.making import fill, rows_of, spec_of


@pytest.fixture(scope="module")
def gcs_port() -> Iterator[int]:
    pytest.importorskip("gcp_storage_emulator")
    # gcsfs 2026 otherwise asks a real service whether the bucket is hierarchical.
    with pytest.MonkeyPatch.context() as patch, gcs_emulator() as port:
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        yield port


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with s3_emulator() as port:
        yield port


EMULATED = pytest.mark.emulator


@pytest.fixture(
    params=[
        "local",
        "memory",
        pytest.param("gcs", marks=EMULATED),
        pytest.param("s3", marks=EMULATED),
    ]
)
def place(request, tmp_path) -> Place:
    name = uuid.uuid4().hex
    if request.param == "local":
        return Place(str(tmp_path / name))
    if request.param == "memory":
        return Place(f"memory://{name}")
    if request.param == "gcs":
        return Place(f"gs://{BUCKET}/{name}/deep", gcs_options(request.getfixturevalue("gcs_port")))
    return Place(f"s3://{BUCKET}/{name}/deep", s3_options(request.getfixturevalue("s3_port")))


def test_objects_are_read_whole_and_in_ranges(place):
    location = locate(place)
    location.write("a/b", [b"0123", b"", b"456789"])
    assert location.read("a/b") == b"0123456789"
    assert location.read("a/b", 3, 7) == b"3456"
    assert location.read("a/b", 8, 20) == b"89"
    assert location.read("a/b", 4, 4) == b""


def test_a_second_write_replaces_the_first(place):
    location = locate(place)
    location.write("a", [b"long long ago"])
    location.write("a", [b"now"])
    assert location.read("a") == b"now"


def test_a_write_that_fails_leaves_the_old_object(place):
    location = locate(place)
    location.write("a", [b"old"])

    def parts():
        yield b"new"
        raise RuntimeError("encoder broke")

    with pytest.raises(RuntimeError, match="encoder broke"):
        location.write("a", parts())
    assert location.read("a") == b"old"
    assert location.children() == ["a"]


def test_of_two_that_create_an_object_one_succeeds(place):
    location = locate(place)
    assert location.create("a/b", b"first")
    assert not locate(place).create("a/b", b"second")
    assert location.read("a/b") == b"first"
    assert location.children("a") == ["b"]


def test_children_are_the_names_directly_below(place):
    location = locate(place)
    assert location.children() == []
    for key in ("zarr.json", "sites/x/c/0/0", "sites/y/zarr.json", "sites-not"):
        location.write(key, [b"x"])
    assert location.children() == ["sites", "sites-not", "zarr.json"]
    assert location.children("sites") == ["x", "y"]
    assert location.children("nothing/here") == []


def test_removed_objects_are_gone_and_removing_again_is_harmless(place):
    location = locate(place)
    location.write("a/b", [b"x"])
    location.remove("a/b")
    location.remove("a/b")
    assert location.children() == []
    with pytest.raises(FileNotFoundError):
        location.read("a/b")


SPEC = spec_of(rows=400, shard_rows=192)


def write_store(place: Place, **options) -> None:
    spec = SPEC
    rows = rows_of(spec)
    with StoreWriter.open(place.url, spec, place.options, **options) as writer:
        for bucket in sorted(set(range(writer.n_buckets)) - writer.committed):
            fill(writer, rows, bucket)


def check_store(place: Place, expected: str) -> None:
    store, local = ActivationStore.open(place.url, place.options), ActivationStore.open(expected)
    assert store.complete
    for site in store.sites:
        assert torch.equal(store.read(site, 0, 400), local.read(site, 0, 400))
        assert store.normaliser(site) == local.normaliser(site)
    with store.stream("mlp_out.0", 90) as there, local.stream("mlp_out.0", 90) as here:
        for _ in range(5):
            assert torch.equal(next(there), next(here))
    assert verify_store(place.url, place.options).problems == []


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> str:
    """The store on the local disk."""
    place = Place(str(tmp_path_factory.mktemp("local") / "acts"))
    write_store(place)
    return place.url


def test_a_store_is_the_same_everywhere(place, local):
    write_store(place)
    check_store(place, local)


def test_a_store_grows_everywhere(place, tmp_path):
    """From two buckets to three and a short one, which is the end."""
    begun, whole = (spec_of(rows=n, shard_rows=192) for n in (384, 600))
    rows = rows_of(whole)
    local = Place(str(tmp_path / "begun at that size"))
    for where, spec in ((place, begun), (place, whole), (local, whole)):
        with StoreWriter.open(where.url, spec, where.options) as writer:
            for bucket in sorted(set(range(writer.n_buckets)) - writer.committed):
                fill(writer, rows, bucket)
    store = ActivationStore.open(place.url, place.options)
    assert (store.rows, store.complete) == (600, True)
    assert verify_store(place.url, place.options).problems == []
    assert torch.equal(
        store.read("mlp_out.0", 384, 600),
        ActivationStore.open(local.url).read("mlp_out.0", 384, 600),
    )


def test_a_token_store_is_the_same_everywhere(place):
    sequences = torch.randint(0, 4096, (50, 8), generator=torch.Generator().manual_seed(0)).numpy()
    ids: dict[str, Any] = {"context": 8, "bos": 2, "eos": 1, "pad": 0}
    tokens = TokenStore.create(place.url, storage_options=place.options, **ids)
    tokens.write({"train": sequences})
    again = TokenStore.open(place.url, place.options)
    assert (again.sequences("train")[7:31] == sequences[7:31]).all()
    with pytest.raises(FileExistsError, match="already holds a token store"):
        TokenStore.create(place.url, storage_options=place.options, **ids)


@pytest.fixture(
    params=["memory", pytest.param("gcs", marks=EMULATED), pytest.param("s3", marks=EMULATED)]
)
def root(request) -> Iterator[Place]:
    """A bucket as a place; emptied afterwards."""
    if request.param == "memory":
        place = Place("memory://")
    elif request.param == "gcs":
        place = Place(f"gs://{BUCKET}", gcs_options(request.getfixturevalue("gcs_port")))
    else:
        place = Place(f"s3://{BUCKET}", s3_options(request.getfixturevalue("s3_port")))
    empty(locate(place))
    yield place
    empty(locate(place))


def empty(location: Location, prefix: str = "") -> None:
    for name in location.children(prefix):
        key = f"{prefix}/{name}".lstrip("/")
        empty(location, key)
        location.remove(key)


def test_a_token_store_at_a_buckets_root_leaves_what_is_beside_it_alone(root):
    locate(root).replace("beside/tokenize.json", b"{}")
    ids: dict[str, Any] = {"context": 8, "bos": 2, "eos": 1, "pad": 0}
    TokenStore.create(root, **ids)  # and is killed
    tokens = TokenStore.create(root, **ids)
    tokens.write({"train": torch.ones(5, 8, dtype=torch.int64).numpy()})
    assert TokenStore.open(root).splits == {"train": 5}
    assert locate(root).children() == ["beside", "train", "zarr.json"]
    assert locate(root).read("beside/tokenize.json") == b"{}"


def test_an_activation_store_at_a_buckets_root_is_written_read_and_checked(root):
    spec = spec_of()
    with pytest.raises(FileNotFoundError, match=f"^no activation store at {root.url}"):
        ActivationStore.open(root)
    with StoreWriter.open(root, spec) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, rows_of(spec), bucket)
    store = ActivationStore.open(root)
    assert store.complete
    assert store.read("mlp_out.0", 690, 700).shape == (10, 7)
    locate(root).write("beside/note", [b"x"])
    report = verify_store(root)
    assert report.problems == report.notes == []
    assert locate(root).children() == ["beside", "commits", "labels", "sites", "zarr.json"]


@pytest.mark.parametrize("url", ["gs://", "s3:///", "gcs://"])
def test_a_url_without_a_bucket_is_refused(url):
    with pytest.raises(ValueError, match=f"^URL {url} must name a bucket, got none"):
        locate(url)


def test_an_error_without_text_says_what_it_is():
    def fail(error: Exception):
        raise error

    with pytest.raises(FileNotFoundError, match=r"^gs://b/x does not exist$"):
        attempt("gs://b/x", lambda: fail(FileNotFoundError()))
    with pytest.raises(OSError, match=r"^gs://b/x: NotImplementedError$"):
        attempt("gs://b/x", lambda: fail(NotImplementedError()))


def test_an_activation_store_at_a_buckets_root_leaves_what_is_beside_it_alone(root):
    locate(root).replace("beside/harvest.json", b"{}")
    write_store(root)
    write_store(root)
    assert ActivationStore.open(root).rows == 400
    assert locate(root).read("beside/harvest.json") == b"{}"


NAMES = ["w[12]", "w*", "w?", "w#1", "w 1%20"]


def test_a_key_is_never_a_pattern(place):
    location = locate(place)
    for key in [*NAMES, "w1", "w2"]:
        location.write(key, [key.encode()])
    assert location.children() == sorted([*NAMES, "w1", "w2"])
    for key in NAMES:
        assert location.read(key) == key.encode()
        assert location.size(key) == len(key)
        location.remove(key)
    assert location.children() == ["w1", "w2"]


def test_a_place_without_a_store_is_a_clear_error(place):
    with pytest.raises(FileNotFoundError, match=r"no activation store at .*scopeworks harvest"):
        ActivationStore.open(place.url, place.options)


@pytest.mark.emulator
@pytest.mark.parametrize("cloud", ["gcs", "s3"])
def test_faults_lose_and_duplicate_nothing(request, local, cloud):
    faults = Faults(share=0.15, seed=2)
    port = request.getfixturevalue(f"{cloud}_port")
    with faulty_proxy(port, faults) as proxy:
        if cloud == "gcs":
            place = Place(f"gs://{BUCKET}/faulty-{proxy}", gcs_options(proxy))
        else:
            place = Place(f"s3://{BUCKET}/faulty-{proxy}", s3_options(proxy))
        write_store(place)
        check_store(place, local)
    assert all(faults.done.values()), f"faults injected: {faults.done}"


def test_an_unknown_protocol_is_a_clear_error():
    with pytest.raises(ValueError, match="URL nosuch://x cannot be used: Protocol not known"):
        locate("nosuch://x")


def test_a_missing_driver_names_the_extra(monkeypatch):
    def missing(url, **_options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.url_to_fs", missing)
    with pytest.raises(
        ValueError, match=r"s3://b/x needs a driver .* pip install 'scopeworks\[s3\]'"
    ):
        locate("s3://b/x")


@pytest.mark.emulator
def test_a_bucket_that_does_not_exist_is_named_when_written(s3_port):
    with pytest.raises(
        OSError, match=r"s3://nosuchbucket/x.* cannot be written: The specified bucket"
    ):
        StoreWriter.open("s3://nosuchbucket/x", spec_of(), s3_options(s3_port))


@pytest.mark.emulator
def test_a_gcs_bucket_that_does_not_exist_is_named_when_written(gcs_port):
    with pytest.raises(OSError, match=r"gs://nosuchbucket/x.* cannot be written: .*make the buck"):
        StoreWriter.open("gs://nosuchbucket/x", spec_of(), gcs_options(gcs_port))


@pytest.mark.emulator
def test_missing_credentials_are_one_line_with_the_next_step(s3_port, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    options = {"endpoint_url": f"http://127.0.0.1:{s3_port}"}
    message = r"s3://acts/x/zarr.json: NoCredentialsError: .*; give credentials as .* key=value$"
    with pytest.raises(OSError, match=message):
        ActivationStore.open(f"s3://{BUCKET}/x", options)
    with pytest.raises(OSError, match=message):
        StoreWriter.open(f"s3://{BUCKET}/x", SPEC, options)


def test_storage_options_for_a_local_path_are_refused(tmp_path):
    with pytest.raises(ValueError, match="storage options have no effect on the local path"):
        locate(tmp_path, {"anon": True})


def test_transient_errors_are_told_from_final_ones():
    from scopeworks.store.place.remote import is_transient

    overloaded = OSError("503")
    overloaded.code = 503  # type: ignore[attr-defined]
    assert all(map(is_transient, (ConnectionResetError(), TimeoutError(), overloaded)))
    final = (PermissionError(), ValueError(), OSError(os.strerror(22)), OSError(22, "bad bucket"))
    assert not any(map(is_transient, final))
