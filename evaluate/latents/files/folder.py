"""The folder of an index: writes it and opens it for reading.

Owns which files there are and their order. The manifest is written last, so a folder without one is
unfinished. A reader refuses an index that is unfinished, damaged, or of another version.
"""

import gzip
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ....arguments import path_of
from ....store.place.files import json_bytes, write_folder
from ..contents import Directions, Firings
from . import scripts, tables
from .explanations import shown_explanations
from .features import feature
from .gathered import Decode, Gathered
from .manifest import NAME, Manifest, read_manifest
from .pages import page
from .records import Records, framed, json_text, offsets, side_by_side

PAGES, PAGES_OFFSETS = "data/pages.bin", "data/pages.idx"
FEATURES_OFFSETS, FEATURES_INDEX = "data/features.idx", "features/index.json.gz"

_OURS = ("features/layer_*.bin", "data/search/*.js", "data/shards/*.js", "tables/*.parquet")
"""Files whose number or name depends on the SAE and on what is installed."""

_AGAIN = "make the index again"

Parts = Iterable[bytes | memoryview]


def write_index(
    out: Path,
    manifest: Manifest,
    firings: Firings,
    directions: Directions,
    decode: Decode,
    theta: Float[np.ndarray, " d_sae"],
    page_files: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Writes all files of an index, and its manifest last.

    Args:
        out: the folder; files of an older index in it are replaced or removed.
        manifest: what the index is of; counts, sizes and names of files are filled in here.
        firings: what the pass over the rows found.
        directions: what the weights give.
        decode: gives the texts of token ids, each by itself.
        theta: the SAE's thresholds.
        page_files: the static page, name -> content; not listed in the manifest.

    Returns:
        The manifest as it was written.

    Raises:
        OSError: naming the file that could not be written.
    """
    manifest = _filled(manifest, firings, directions)
    found = Gathered(manifest, firings, directions, decode, theta)
    sizes: dict[str, int] = {}
    files = {
        name: _measured(name, parts, sizes) for name, parts in _files(out, found, sizes).items()
    }
    static = {name: [content] for name, content in (page_files or {}).items()}
    written: list[Manifest] = []

    def last() -> Iterator[bytes]:
        _remove_others(out, set(files))
        written.append(manifest.model_copy(update={"files": dict(sorted(sizes.items()))}))
        yield json_bytes(written[0].model_dump(mode="json"))

    write_folder(out, {**files, **static}, (NAME, last()))
    return written[0]


class LatentIndex:
    """An index for reading.

        index = open_index("index")
        index[498]["tokens"]

    `len` is the number of latents; `index[latent]` is `page(latent)`.

    Attributes:
        folder: its folder.
        manifest: what it is of.
    """

    def __init__(self, folder: Path, manifest: Manifest, features: Records, pages: Records):
        self.folder, self.manifest = folder, manifest
        self._features, self._pages = features, pages

    def as_setting(self) -> str:
        """The index's name in settings: its folder."""
        return str(self.folder)

    def __repr__(self) -> str:
        sae = self.manifest.sae
        return (
            f"LatentIndex({sae.d_sae:,} latents of {sae.name} at {sae.site}, "
            f"{self.manifest.n_alive:,} of them fire; {self.folder})"
        )

    def __len__(self) -> int:
        return self.manifest.sae.d_sae

    def __getitem__(self, latent: int) -> dict[str, Any]:
        return self.page(latent)

    def explanations(self) -> dict[int, dict[str, Any]]:
        """What `explain_latents` and `score_latents` left here, as the pages show it.

        Returns:
            Latent -> `text`, `by` (who explained) and `scores`: scorer -> `value`, `interval`,
            `metric`, and the `controls`' values.

        Raises:
            ValueError: a file is damaged.
        """
        return shown_explanations(self.folder, self.manifest)

    def record(self, latent: int) -> dict[str, Any]:
        """A latent's examples, as circuit-tracer's page reads them.

        Returns:
            - `examples_quantiles`: bands of examples, the strongest first. A band has a
              `quantile_name` and `examples`; an example has the texts of its `tokens`, the feature
              activation at each (`tokens_acts_list`), and the place of the token that it is shown
              for (`train_token_ind`).
            - `top_logits`, `bottom_logits`: output tokens that it raises and lowers most.
            - `act_min`, `act_max`, `histogram`, `quantile_values` (1st to 100th percentile),
              `activation_frequency`: of its feature activation.
            - `transcoder_id`, `index`: the SAE's name, the latent.

        Raises:
            IndexError: there is no such latent.
            ValueError: latent is no whole number, or its record is damaged.
        """
        return self._features.read(latent)

    def page(self, latent: int) -> dict[str, Any]:
        """What a latent's page shows beside its examples; errors as `record`.

        Returns:
            - `i`: the latent.
            - `fired`, `density`: rows in which it fires; over rows read.
            - `mean`, `min`, `max`, `theta`, `histogram`: of its feature activation.
            - `positions`: density between the manifest's `position_edges`.
            - `tokens`: [text, id, share of its firings, share of the token's rows]; counted over
              `drawn` firings.
            - `raised`, `lowered`: [text, effect] of output tokens; `logits`: histogram of all.
            - `neighbours`, `encoder_neighbours` (of a transcoder): [latent, cosine].
            - `together`: [latent, jaccard, correlation] of those that fire in the same rows.
            - `others`: name of another SAE -> [latent, cosine].
        """
        return self._pages.read(latent)


def open_index(folder: str | Path) -> LatentIndex:
    """Opens a finished index; checks sizes, offsets and counts of its files.

    Raises:
        OSError: there is no index, it is unfinished, or a file is missing.
        ValueError: it is damaged, of another version, or of another kind; or folder is no path.
    """
    folder = path_of("folder", folder)
    manifest = read_manifest(folder)
    for name, size in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing, though {NAME} lists it; {_AGAIN}")
        if (got := path.stat().st_size) != size:
            raise ValueError(f"{path} must have {size:,} bytes, got {got:,}; {_AGAIN}")
    needed = (PAGES, PAGES_OFFSETS, manifest.features_file, FEATURES_OFFSETS, FEATURES_INDEX)
    if absent := [name for name in needed if name not in manifest.files]:
        raise ValueError(f"{folder / NAME} must list {absent[0]}, got no such file; {_AGAIN}")
    d_sae = manifest.sae.d_sae
    features = Records(folder / manifest.features_file, folder / FEATURES_OFFSETS, d_sae)
    return LatentIndex(
        folder, manifest, features, Records(folder / PAGES, folder / PAGES_OFFSETS, d_sae)
    )


def _filled(manifest: Manifest, firings: Firings, directions: Directions) -> Manifest:
    """The manifest with the counts of the contents filled in."""
    return manifest.model_copy(
        update={
            "rows": int(firings.rows),
            "n_alive": int((firings.fired > 0).sum()),
            "together_rows": int(firings.together_rows),
            "masked": dict(directions.masked),
            "logit_path": directions.path,
            "position_edges": firings.position_edges.tolist(),
            "bands": _bands(manifest, firings),
        }
    )


def _bands(manifest: Manifest, firings: Firings) -> int:
    """Number of bands that were asked for; the last ones may have no example."""
    kept = int(firings.examples.band.max(initial=0))
    asked = manifest.settings.get("bands")
    return max(asked, kept) if isinstance(asked, int) else kept


def _files(out: Path, found: Gathered, sizes: Mapping[str, int]) -> dict[str, Parts]:
    """Name -> content, in the order of writing; later files are made from earlier ones."""
    manifest, d_sae = found.manifest, found.manifest.sae.d_sae
    feature_ends: list[int] = []
    page_ends: list[int] = []
    files: dict[str, Parts] = {
        manifest.features_file: framed((feature(found, i) for i in range(d_sae)), feature_ends),
        PAGES: framed((page(found, i) for i in range(d_sae)), page_ends),
        FEATURES_OFFSETS: _later(lambda: offsets(feature_ends).tobytes()),
        PAGES_OFFSETS: _later(lambda: offsets(page_ends).tobytes()),
        FEATURES_INDEX: _later(lambda: _layers(manifest, feature_ends)),
    }
    for k in range(-(-d_sae // scripts.SEARCH_LATENTS)):
        files[f"data/search/{k:02}.js"] = _later(lambda k=k: scripts.search(found, k))
    files["data/map.js"] = _later(lambda: scripts.plane(found))
    if d_sae <= scripts.MOST_IN_SHARDS:
        n_shards = -(-d_sae // scripts.SHARD_LATENTS)
        shards = side_by_side((_shard(out, manifest, k) for k in range(n_shards)), scripts.shard)
        for k in range(n_shards):
            files[f"data/shards/{k:04}.js"] = _later(lambda: next(shards))
    if tables.available():
        for table in tables.COLUMNS:
            files[f"tables/{table}.parquet"] = tables.parts(found, table)
    files["data/manifest.js"] = _later(lambda: _manifest_script(manifest, sizes))
    return files


def _later(make: Callable[[], bytes]) -> Iterator[bytes]:
    """Content that is made when it is written."""
    yield make()


def _measured(name: str, parts: Parts, sizes: dict[str, int]) -> Iterator[bytes | memoryview]:
    """The same parts; after the last one, the file's size is put into `sizes`."""
    size = 0
    for part in parts:
        size += len(part)
        yield part
    sizes[name] = size


def _remove_others(out: Path, names: set[str]) -> None:
    """Removes files of an older index that this one does not replace."""
    for pattern in _OURS:
        for path in out.glob(pattern):
            if path.relative_to(out).as_posix() not in names:
                path.unlink()


def _layers(manifest: Manifest, ends: list[int]) -> bytes:
    """circuit-tracer's `index.json.gz`: layer -> file, and where records begin."""
    filename = Path(manifest.features_file).name
    layers = {str(manifest.layer): {"filename": filename, "offsets": [0, *ends]}}
    return gzip.compress(json_text(layers).encode(), 9, mtime=0)


def _shard(out: Path, manifest: Manifest, k: int) -> tuple[int, bytes]:
    """A shard's content, made from the records that are already on disk."""
    d_sae = manifest.sae.d_sae
    features = Records(out / manifest.features_file, out / FEATURES_OFFSETS, d_sae)
    pages = Records(out / PAGES, out / PAGES_OFFSETS, d_sae)
    return scripts.shard_json(features, pages, k, d_sae)


def _manifest_script(manifest: Manifest, sizes: Mapping[str, int]) -> bytes:
    """The manifest for a page opened from disk, with the files written so far."""
    whole = manifest.model_copy(update={"files": dict(sorted(sizes.items()))})
    return scripts.call("manifest", whole.model_dump(mode="json"))
