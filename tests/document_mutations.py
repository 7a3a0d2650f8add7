"""Documents that were damaged on purpose, and what their readers make of them.

Case n of a seed is always the same: a sound folder of a kind, of which one document is changed.
Its reader must take it, or refuse it with a ValueError or OSError in one line that names the
folder, within bounded time and memory. Where the document of a store is taken, its rows must be
those that were written, or `store verify` must find that they are not. Used by
tests/test_document_mutations.py and, at length, by benchmarks/mutations.py.
"""

import io
import json
import resource
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy

from scopeworks.evaluate.latents.files.folder import open_index
from scopeworks.evaluate.page.report import write_report
from scopeworks.store import ActivationStore, StoreWriter, TokenStore
from scopeworks.store.format.spec import checksum
from scopeworks.store.tools.verify import verify_store
from scopeworks.tests.damaged_json import EDGES, damaged_bytes, damaged_value
from scopeworks.tests.evaluate.latents import made_contents
from scopeworks.tests.store.making import fill, rows_of, spec_of
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.export import export_sae
from scopeworks.train.sae.sae import SAE

SECONDS, GIBIBYTES = 10, 2
"""A case's bounds: seconds of the processor, memory beyond what there is."""

READ, REFUSED, FOUND = "read", "refused", "read, verify finds it"
NAMELESS, LINES, LONG, SILENT = "FILE NOT NAMED", "MANY LINES", "LONG LINE", "other rows, NOT FOUND"


@dataclass(frozen=True)
class Kind:
    """Files that belong together, the one that is changed, how, and what reads them."""

    files: Callable[[], dict[str, bytes]]
    name: str
    damaged: Callable[[bytes, Random], bytes]
    read: Callable[[Path], str]


def outcome(seed: int, case: int) -> tuple[str, str]:
    """Makes a case and judges it: the kind, and what came of it.

    Any error but a clear one comes out of here.
    """
    random = Random(f"{seed}/{case}")
    kind = list(KINDS)[case % len(KINDS)]
    files = dict(KINDS[kind].files())
    files[KINDS[kind].name] = KINDS[kind].damaged(files[KINDS[kind].name], random)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "it"
        write(folder, files)
        try:
            with _bounded(), redirect_stderr(io.StringIO()):
                return kind, KINDS[kind].read(folder)
        except (ValueError, OSError) as error:
            return kind, _judged(str(error), folder)


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Makes the files of a kind."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _judged(text: str, folder: Path) -> str:
    """Whether an error's text is one that a user can do something with."""
    if "\n" in text:
        return LINES
    if str(folder) not in text:
        return NAMELESS
    return REFUSED if len(text) < 2000 else LONG


@contextmanager
def _bounded() -> Iterator[None]:
    """Raises RuntimeError or MemoryError in a case that takes too much."""

    def too_long(_signal: int, _frame: Any) -> None:
        raise RuntimeError(f"a case must take at most {SECONDS} seconds of the processor")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + GIBIBYTES * 2**30, hard)
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _json(data: bytes, random: Random) -> bytes:
    """A JSON document, changed in its entries or its bytes."""
    if random.random() < 0.6:
        return json.dumps(damaged_value(json.loads(data), random)).encode()
    return damaged_bytes(data, random)


def _summed(data: bytes, random: Random) -> bytes:
    """A store's document; its checksum made again, as somebody might who means harm."""
    if random.random() < 0.3:
        return damaged_bytes(data, random)
    document = json.loads(data)
    inside = document["attributes"]["scopeworks"]
    del inside["crc32c"]
    inside = damaged_value(inside, random)
    try:
        document["attributes"]["scopeworks"] = inside | {"crc32c": checksum(inside)}
    except ValueError:  # half a surrogate pair
        document["attributes"]["scopeworks"] = inside
    return json.dumps(document).encode()


def _safetensors(data: bytes, random: Random) -> bytes:
    """A safetensors file with another header, whose length is told again or not."""
    n_header = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + n_header], data[8 + n_header :]
    changed = _json(header, random)
    length = len(changed)
    if random.random() < 0.2:
        length = random.choice((0, 1, n_header, len(data), 2**31, 2**63, 2**64 - 1))
    if random.random() < 0.2:
        rest = random.choice((rest[:-1], rest + b"\0", b"", rest * 2))
    return length.to_bytes(8, "little") + changed + rest


def _npz(data: bytes, random: Random) -> bytes:
    """An npz with its bytes changed, or made again with other arrays."""
    if random.random() < 0.5:
        changed = bytearray(data)
        marks = [i for i in range(len(data)) if data[i : i + 2] in (b"PK", b"\x93N")]
        for _ in range(random.choice((1, 1, 2, 8))):
            at = random.choice(marks) + random.randrange(130)
            changed[min(at, len(data) - 1)] = random.choice(
                (0, 1, 0x7F, 0xFF, random.randrange(256))
            )
        return bytes(changed) if random.random() < 0.9 else data[: random.randrange(len(data))]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    made = io.BytesIO()
    method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    changed_name = random.choice(list(members))
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, member in members.items():
            content = _npy(member, random) if name == changed_name else member
            archive.writestr(name, content)
    return made.getvalue()


def _npy(data: bytes, random: Random) -> bytes:
    """An array with another header, or other bytes."""
    array = np.load(io.BytesIO(data))
    shape: list[Any] = list(array.shape)
    shape[random.randrange(len(shape))] = random.choice((0, -1, 1, 2**40, 2**63, 10**30, "x", 2.5))
    types = ("<f4", "<f2", "<f8", "<i4", "|V2", "|O", "<U9", "<f16", "<c8", "|b1", [("a", "<f4")])
    header = random.choice(
        (
            {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)},
            {"descr": random.choice(types), "fortran_order": False, "shape": array.shape},
            {"descr": "<f4", "fortran_order": True, "shape": array.shape[::-1]},
            {"descr": "<f4", "fortran_order": random.choice(EDGES), "shape": array.shape},
            {"descr": "<f4"},
            [1, 2],
        )
    )
    text = (repr(header) if random.random() < 0.9 else "(" * 5000).encode() + b"\n"
    body = array.tobytes() * random.choice((1, 1, 1, 2))
    if random.random() < 0.2:
        body = np.full_like(array, random.choice((np.nan, np.inf, -1e38))).tobytes()
    version = random.choice(((1, 0), (1, 0), (2, 0), (9, 9)))
    width = 2 if version == (1, 0) else 4  # a longer header than its length can say is cut off
    n_bytes = min(len(text), 256**width - 1).to_bytes(width, "little")
    return npy.magic(*version) + n_bytes + text + body


def _read_sae(folder: Path) -> str:
    """An SAE, used and written again; a format that cannot hold it says so."""
    sae = SAE.load(folder)
    x = torch.ones(2, sae.config.d_in)
    assert sae(x).shape == (2, sae.config.d_out)
    for format in ("sae-lens", "gemma-scope-2", "gemma-scope"):
        try:
            export_sae(folder, format, folder.with_name(format))
        except (ValueError, OSError) as error:
            assert "\n" not in str(error), str(error)
    return READ


def _read_rows(folder: Path) -> str:
    """An activation store's rows, beside those that were written."""
    problems = verify_store(folder, threads=1).problems
    store = ActivationStore.open(folder)
    for site in store.sites:
        read = store.read(site, 0, store.rows)
        if site not in _rows() or not torch.equal(read, _rows()[site][: store.rows]):
            return FOUND if problems else SILENT
        store.normaliser(site)
        store.mean(site)
        for _ in store.stream(site, batch_rows=64, seed=0):
            break
    return READ


def _read_tokens(folder: Path) -> str:
    """A token store's sequences, beside those that were written."""
    store = TokenStore.open(folder)
    for split in store.splits:
        ids = np.asarray(store.sequences(split)[:])
        if not np.array_equal(ids, _TOKENS[: len(ids)]):
            return SILENT
    return READ


def _read_evaluation(folder: Path) -> str:
    """An evaluation's JSON, as a report's."""
    write_report(folder.with_name("report.html"), [folder / "e.json"])
    return READ


def _read_index(folder: Path) -> str:
    """An index's records."""
    index = open_index(folder)
    assert index.page(1)["i"] == index.record(1)["index"] == 1
    return READ


@cache
def _rows() -> dict[str, torch.Tensor]:
    """What the sound store holds."""
    with TemporaryDirectory() as folder:
        write(Path(folder), _store())
        store = ActivationStore.open(folder)
        return {site: store.read(site, 0, store.rows) for site in store.sites}


_TOKENS = np.arange(60, dtype=np.uint32).reshape(6, 10)


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@cache
def _store() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        writer = StoreWriter.open(f"{folder}/store", spec_of())
        for bucket in range(spec_of().n_buckets):
            fill(writer, rows_of(spec_of()), bucket)
        writer.close()
        return _contents(Path(folder, "store"))


@cache
def _token_store() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        store = TokenStore.create(f"{folder}/tokens", context=10, bos=0, eos=1, pad=None)
        store.write({"train": _TOKENS, "held_out": _TOKENS[:2]})
        return _contents(Path(folder, "tokens"))


@cache
def _index() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        made_contents.write(Path(folder, "index"), 6)
        return _contents(Path(folder, "index"))


@cache
def _sae_files(format: str, transcoder: bool) -> dict[str, bytes]:
    """A small SAE or skip transcoder in a format."""
    random = torch.Generator().manual_seed(0)
    sites = {"site": "resid_post.1", "target_site": "mlp_out.1" if transcoder else None}
    config = {"d_in": 4, "d_sae": 6, "d_out": 4, "model": "m", "context": 8, "l0": 2.5} | sites
    sae = SAE(
        SAEConfig.model_validate(config),
        W_enc=torch.randn(4, 6, generator=random),
        b_enc=torch.randn(6, generator=random),
        W_dec=torch.randn(6, 4, generator=random),
        b_dec=torch.randn(4, generator=random),
        theta=torch.rand(6, generator=random),
        W_skip=torch.randn(4, 4, generator=random) if transcoder else None,
    )
    with TemporaryDirectory() as folder:
        sae.save(Path(folder, "sae"), {"skip": transcoder, "steps": 3})
        if format == "trained":
            return _contents(Path(folder, "sae"))
        return _contents(export_sae(Path(folder, "sae"), format, Path(folder, "out")))


@cache
def _evaluation() -> dict[str, bytes]:
    """The least that a report can be made of, and something for each of its sections."""
    figures = {"name": "a", "l0": 2.0, "fvu": 0.1, "delta_loss": 0.2, "delta_loss_stderr": 0.01}
    snippet = {"position": 1, "start": 0, "activation": 2.0}
    latent = {"latent": 3, "frequency": 0.1}
    sae = figures | {
        "path": "a",
        "recovered_share": 0.9,
        "site": "resid_post.1",
        "target_site": "resid_post.1",
        "d_sae": 6,
        "config": {"sparsity": 1e-3, "trained_rows": 100},
        "training": {
            "settings": {"target_l0": None},
            "metrics": {"step": [1, 2], "fvu": [0.5, 0.2], "l0": [3.0, 2.0], "dead_share": [0, 0]},
        },
        "dead_share": 0.0,
        "kl": 0.1,
        "cosine": 0.9,
        "norm_ratio": 0.95,
        "intervals": {"l0": [1.9, 2.1], "fvu": [0.09, 0.11], "delta_loss": None},
        "firing": {
            "n_tokens": 9,
            "log10_edges": [-3.0, -2.0, -1.0],
            "histogram": [4, 2],
            "share_above_1_percent": 0.5,
        },
        "weights": {
            "theta": {"0.50": 0.1},
            "W_enc_norm": {"0.50": 1.0},
            "W_dec_norm": {"0.50": 1.0},
            "b_dec_norm": 3.0,
        },
        "by_dimension": {"fvu": [0.1, None], "quantiles": {"0.50": 0.1}},
        "by_position": {
            "error": [0.1, 0.2, None],
            "delta_loss": [0.1, 0.2, None],
            "kl": [0.1, 0.2, None],
        },
        "importance": {
            "n_tokens": 4,
            "r_l0": 0.5,
            "effective_latents": 1.0,
            "active_latents": 2.0,
        },
        "top_activations": [
            latent | {"snippets": [snippet | {"tokens": ["a", "b"], "activations": [0.0, 2.0]}]}
        ],
    }
    subset = {
        "n_sequences": 2,
        "clean_loss": 3.0,
        "saes": [figures | {"n_tokens": 5, "recovered_share": 0.9}],
    }
    evaluation = {
        "settings": {"n_sequences": 9},
        "model": {"name": "m", "fingerprint": "f" * 16, "dtype": "float32"},
        "tokens": {
            "url": "t",
            "fingerprint": "0" * 64,
            "split": "held_out",
            "context": 3,
            "n_sequences": 6,
            "n_sequences_asked": 9,
            "fewer_than_asked": True,
        },
        "clean": {"loss": 3.0, "n_predictions": 9, "by_position": {"n_predictions": [6, 6, 0]}},
        "baselines": {"resid_post.1": {"mean_ablation_loss": 5.0, "zero_ablation_loss": 6.0}},
        "saes": [sae],
        "subsets": {"web": subset},
        "seconds": 1.0,
    }
    return {"e.json": json.dumps(evaluation).encode()}


def _sae_kind(
    format: str, name: str, damaged: Callable[[bytes, Random], bytes], transcoder: bool = False
) -> Kind:
    return Kind(lambda: _sae_files(format, transcoder), name, damaged, _read_sae)


KINDS = {
    "store's root": Kind(_store, "zarr.json", _summed, _read_rows),
    "commit": Kind(_store, "commits/00000001/zarr.json", _summed, _read_rows),
    "array's metadata": Kind(_store, "sites/mlp_out.0/zarr.json", _json, _read_rows),
    "token store's root": Kind(_token_store, "zarr.json", _summed, _read_tokens),
    "evaluation": Kind(_evaluation, "e.json", _json, _read_evaluation),
    "trained config": _sae_kind("trained", "config.json", _json),
    "trained transcoder's config": _sae_kind("trained", "config.json", _json, True),
    "safetensors": _sae_kind("trained", "sae.safetensors", _safetensors),
    "SAELens config": _sae_kind("sae-lens", "cfg.json", _json),
    "SAELens transcoder's config": _sae_kind("sae-lens", "cfg.json", _json, True),
    "Gemma Scope 2 config": _sae_kind("gemma-scope-2", "config.json", _json),
    "Gemma Scope 2 transcoder's config": _sae_kind("gemma-scope-2", "config.json", _json, True),
    "origin.json": _sae_kind("gemma-scope", "origin.json", _json),
    "npz": _sae_kind("gemma-scope", "params.npz", _npz),
    "index's manifest": Kind(_index, "index.json", _json, _read_index),
}
