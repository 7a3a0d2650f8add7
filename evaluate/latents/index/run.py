"""The index of an SAE's latents: from stored rows and weights to a folder that people browse.

Owns the run of `scopeworks latents index`: the checks before it, the files that stay after it, and
whether it is done already. `firing` makes the pass over the rows, `files` writes the files.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ....harvest.model.vocabulary import tokenizer_fingerprint
from ....machine import free_disk
from ....settings import differences
from ....store.place.files import leftovers, write_json
from ....store.place.ownership import PREFIX, owned
from ....train.sae.config import public_name
from ....train.sae.hub import is_remote
from ....train.sae.sae import SAE
from ....verbs import takes
from ....workers.cluster import check_cluster
from ..explorer.static_page import page_files
from ..files import tables
from ..files.explanations import SCRIPT, script
from ..files.folder import LatentIndex, open_index, write_index
from ..files.manifest import (
    NAME,
    PLACES,
    Manifest,
    Places,
    SAEFacts,
    StoreFacts,
    TokensFacts,
    read_manifest,
)
from ..weights.directions import directions
from ..weights.readout import Readout, read_readout
from .firing import Pass, Seconds, firings, timed
from .inputs import Inputs, compared, read_sae
from .on_dask import doing
from .parts import PartFiles, parts_of
from .settings import NOT_DECIDING, IndexSettings

TIMING = "timing.json"
"""File with the seconds of the run, which are not part of the index."""

_LATENT_BYTES, _KEPT_BYTES = 2**14, 28 * 256 + 4096
"""About how many bytes a latent takes: in an index, and in the file of a part."""


@takes(IndexSettings)
def index_latents(settings: IndexSettings) -> LatentIndex:
    """Makes the index of an SAE's latents, as `index` does, and opens it.

    Raises:
        ValueError, OSError: an input is missing or does not fit the others.
    """
    index(settings)
    return open_index(settings.out)


def index(settings: IndexSettings) -> Manifest:
    """Makes the index of an SAE, or continues one that was stopped.

    The same inputs and settings give the same bytes, with or without workers. A complete index is
    left as it is.

    Raises:
        ValueError, OSError: an input is missing or does not fit the others, or the folder holds
            other files; nothing is written.
    """
    if settings.dask is not None:
        check_cluster(settings.dask)
    times: Seconds = {}
    started = time.monotonic()
    with timed(times, "inputs"):
        inputs = Inputs.load(settings)
        readout = read_readout(settings.model)
        wanted = _manifest(inputs, readout)
    with owned(settings.out, wait=None):
        if (done := already_there(settings.out, wanted)) is not None:
            print(f"index in {settings.out} is complete: it stays as it is", file=sys.stderr)
            PartFiles(settings.out, {}).remove()  # left if a run was stopped after the manifest
            write_json(settings.out / PLACES, _places(settings))
            return done
        check_is_ours(settings.out)
        _check_disk(inputs)
        manifest = _made(inputs, readout, wanted, times)
        times["all"] = time.monotonic() - started
        write_json(settings.out / TIMING, {n: round(s, 2) for n, s in times.items()})
    return manifest


def _made(inputs: Inputs, readout: Readout, wanted: Manifest, times: Seconds) -> Manifest:
    """Makes and writes the index; returns its manifest."""
    settings = inputs.settings
    work = Pass(inputs)
    work.files.check()
    write_json(settings.out / PLACES, _places(settings))
    page = page_files() | {SCRIPT: script(settings.out, wanted)}
    with timed(times, "weights"):  # first, so that inputs that do not fit cost no pass
        of_weights = directions(
            inputs.sae.to("cpu", copy=False),
            readout,
            site=str(inputs.site),
            others=_others(settings, wanted),
            device=inputs.sae.W_enc.device,
        )
    with doing(work) as do:
        of_rows = firings(work, do, times)
    files = work.files
    del work, do  # frees the memory of the sweeps
    if not tables.available():
        print(
            "tables/ is left out, for pyarrow is not installed; after pip install "
            "'scopeworks[latents]' the same command adds it",
            file=sys.stderr,
        )
    with timed(times, "writing"):
        theta = inputs.sae.theta.cpu().numpy()
        manifest = write_index(
            settings.out, wanted, of_rows, of_weights, readout.texts, theta, page
        )
        files.remove()
    return manifest


def _places(settings: IndexSettings) -> dict[str, str]:
    """Places of the inputs, for commands that need them again."""
    given = {name: str(getattr(settings, name)) for name in Places.model_fields}
    return {
        name: str(Path(place).absolute()) if Path(place).exists() else place
        for name, place in given.items()
    }


def _others(settings: IndexSettings, wanted: Manifest) -> dict[str, Callable[[], SAE]]:
    """Name of each SAE of `compare` -> function that reads it."""
    pairs = zip(wanted.others, settings.compare, strict=True)
    return {facts.name: partial(read_sae, path, settings) for facts, path in pairs}


def _manifest(inputs: Inputs, readout: Readout) -> Manifest:
    """The manifest without counts and files; also checks the model."""
    config, settings = inputs.sae.config, inputs.settings
    fingerprint = readout.tensors.fingerprint()
    tokenizer = tokenizer_fingerprint(readout.tokenizer)
    inputs.check_model(fingerprint, tokenizer)
    decides = settings.model_dump(mode="json", exclude=set(NOT_DECIDING))
    across = "of the text, also across sequences" if inputs.documents.across else "of one sequence"
    return Manifest(
        sae=SAEFacts(
            name=inputs.name,
            source=inputs.sae.source if is_remote(settings.sae) else None,
            site=str(inputs.site),
            target_site=str(inputs.target_site) if config.is_transcoder else None,
            d_in=config.d_in,
            d_out=config.d_out,
            d_sae=config.d_sae,
            architecture="jumprelu" if config.k is None else "topk",
            fingerprint=inputs.sae_fingerprint,
            l0=config.l0,
            model=config.model,
        ),
        model=public_name(readout.name),
        model_fingerprint=fingerprint,
        tokenizer=tokenizer,
        store=StoreFacts(key=inputs.key, site=str(inputs.site), rows=inputs.store.rows),
        tokens=TokensFacts(
            fingerprint=inputs.tokens.fingerprint,
            split=inputs.split,
            context=inputs.tokens.context,
        ),
        others=compared(settings),
        settings=decides | {"documents": across},
    )


def already_there(out: Path, wanted: Manifest) -> Manifest | None:
    """The manifest of a complete index in the folder; None if it must be made or completed.

    Raises:
        ValueError: the folder holds another index.
    """
    if not (out / NAME).is_file():
        return None
    old = read_manifest(out)
    changed = differences(_identity(old), _identity(wanted))
    if changed:
        raise ValueError(
            f"out must be empty or hold this index, got {out}, an index of SAE {old.sae.name} with "
            f"other {'; '.join(changed[:3])}; pass another folder"
        )
    try:
        open_index(out)
    except (ValueError, OSError):
        return None  # damaged: its files are made again
    has_tables = any(name.startswith("tables/") for name in old.files)
    return old if has_tables or not tables.available() else None


def check_is_ours(out: Path) -> None:
    """Refuses a folder that is not an index but has files in it.

    Raises:
        ValueError: naming the first of these files.
    """
    if (out / NAME).is_file() or (out / PLACES).is_file():
        return
    found = {path.name for path in out.iterdir() if not path.name.startswith(PREFIX)}
    if others := sorted(found - {path.name for path in leftovers(out)}):
        raise ValueError(
            f"out must be empty or hold an index, got {out} with {', '.join(others[:5])}; pass "
            "another folder"
        )


def _identity(manifest: Manifest) -> dict[str, Any]:
    """The facts that differ between two indexes: content, not places."""
    found = manifest.model_dump(
        mode="json", include={"model_fingerprint", "tokenizer", "store", "tokens", "settings"}
    )
    found["store"].pop("rows")  # a harvest may add rows after those that were read
    return found | {
        "sae": manifest.sae.fingerprint,
        "site": manifest.sae.site,
        "compare": sorted(other.fingerprint for other in manifest.others),
    }


def _check_disk(inputs: Inputs) -> None:
    """Refuses a disk without space for the index and the parts of its pass."""
    settings, d_sae = inputs.settings, inputs.sae.config.d_sae
    n_parts = len(parts_of(inputs.store, settings.rows))
    needed = d_sae * (_LATENT_BYTES + n_parts * _KEPT_BYTES) + 2**26
    free = free_disk(settings.out)
    if needed > free:
        raise OSError(
            f"out must be on a disk with about {needed / 2**30:.1f} GiB for the index of "
            f"{d_sae:,} latents and its parts, got {free / 2**30:.1f} GiB free at {settings.out}; "
            "make room, or pass another folder"
        )
