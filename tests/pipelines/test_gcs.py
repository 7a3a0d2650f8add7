"""The whole road on Google Cloud Storage, through the commands, against an emulator."""

import json
from importlib.resources import files

import pytest
from typer.testing import CliRunner

from scopeworks.pipelines.cli import app
from scopeworks.store import ActivationStore, TokenStore
from scopeworks.store.place.locate import locate
from scopeworks.tests.store.clouds import BUCKET

MODEL = str(files("scopeworks.pipelines") / "tiny_gemma2")


@pytest.fixture
def gcs_flags(bucket):
    """Options of a bucket, and the same as --storage-option."""
    return bucket, [f"--storage-option={key}={value}" for key, value in bucket.items()]


def invoke(*args: object) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.emulator
def test_tokenize_harvest_and_train_on_gcs(gcs_flags, tmp_path):
    options, flags = gcs_flags
    url, lines = f"gs://{BUCKET}/run", [{"text": f"row {i} of some text. " * 9} for i in range(40)]
    text, tokens, store = f"{url}/text/a.jsonl", f"{url}/tokens", f"{url}/acts"
    import fsspec

    filesystem = fsspec.url_to_fs(url, **options)[0]
    filesystem.pipe(text, "".join(json.dumps(line) + "\n" for line in lines).encode())
    model = ["--model", MODEL]
    output = invoke(
        "tokenize", *model, "--text", f"{url}/text", "--out", tokens, "--context", 64, *flags
    )
    assert "read 1 files, 40 documents" in output
    assert not filesystem.exists(f"{tokens}.parts")
    harvest = ["harvest", *model, "--tokens", tokens, "--store", store, "--device", "cpu"]
    harvest += ["--site", "resid_post.1", "--batch-sequences", 4, *flags]
    invoke(*harvest, "--rows", 600)
    assert "1,216 rows of resid_post.1" in invoke(*harvest, "--rows", 900)
    assert ActivationStore.open(store, options).rows == 1216
    sae = tmp_path / "sae"
    invoke(
        *["train", "--store", store, "--site", "resid_post.1", "--out", sae, "--width", 32],
        *["--sparsity", 1e-3, "--steps", 2, "--batch", 128, "--device", "cpu", *flags],
        *["--set", "lr_warmup_steps=0", "--set", "sparsity_warmup_steps=0"],
    )
    assert (sae / "sae.safetensors").is_file()
    assert TokenStore.open(tokens, options).splits["train"] > 10


@pytest.mark.emulator
def test_stores_on_gcs_are_listed_and_joined(gcs_flags, tmp_path):
    _, flags = gcs_flags
    text, url = tmp_path / "a.txt", f"gs://{BUCKET}/shared"
    text.write_text("some text of a row. " * 99)
    model = ["--model", MODEL]
    tokens, sites = f"{url}/tokens", ("transcoder_in.1", "mlp_out.1")
    invoke("tokenize", *model, "--text", text, "--out", tokens, "--context", 64, *flags)
    harvest = ["harvest", *model, "--tokens", tokens, "--device", "cpu", *flags]
    harvest += ["--rows", 256, "--bucket-rows", 64, "--batch-sequences", 4]
    for site in sites:
        invoke(*harvest, "--site", site, "--store", f"{url}/{site}")
    stores = [f"{url}/{site}" for site in sites]
    listed = json.loads(invoke("store", "list", url, "--json", *flags))
    assert [entry["url"] for entry in listed] == [stores[1], tokens, stores[0]]
    assert [entry["complete"] for entry in listed] == [True] * 3
    assert listed[0]["rows_key"] == listed[2]["rows_key"]
    assert "joined: 256 of 256 rows (complete)" in invoke("store", "info", *stores, *flags)
    train = ["train", "--site", sites[0], "--target-site", sites[1], "--width", 32]
    train += ["--sparsity", 1e-3, "--steps", 2, "--batch", 64, "--device", "cpu"]
    train += ["--set", "lr_warmup_steps=0", "--set", "sparsity_warmup_steps=0"]
    both = ["--store", stores[0], "--store", stores[1], "--cache-dir", tmp_path / "cache", *flags]
    invoke(*train, *both, "--out", tmp_path / "joined")
    invoke(*harvest, *(f"--site={site}" for site in sites), "--store", tmp_path / "one")
    invoke(*train, "--store", tmp_path / "one", "--out", tmp_path / "one_sae")
    joined, one = (tmp_path / name / "sae.safetensors" for name in ("joined", "one_sae"))
    assert joined.read_bytes() == one.read_bytes()


@pytest.mark.emulator
def test_tokens_at_a_buckets_root_are_written_and_continued(gcs_flags, tmp_path):
    options, flags = gcs_flags
    text = tmp_path / "a.txt"
    text.write_text("some text of a row. " * 99)
    url = f"gs://{BUCKET}"
    command = ["tokenize", "--model", MODEL, "--text", text]
    command += ["--out", url, "--context", 64, "--held-out", 0, *flags]
    assert "train sequences" in invoke(*command)
    assert "already complete by the same settings" in invoke(*command)
    assert locate(url, options).children() == ["beside", "train", "zarr.json"]
    assert locate(url, options).children("beside") == ["tokenize.json"]
