"""The manifest of an index: its SAE, rows and text, and every file with its size.

Owns `index.json`, which is written last: a folder without it is unfinished. Every field has bounds,
because the document may have come from elsewhere. `places.json` beside it says where the SAE, rows
and text were; it is no part of the index, whose bytes do not depend on places.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ....foreign import Document, parse_json, read_document, short, validated
from ....harvest.model.sites import parse_site

NAME = "index.json"
PLACES = "places.json"
FORMAT, VERSION = "latents-index", "1.0"

_MOST_BYTES = 2**24

Size = Annotated[int, Field(ge=1, le=2**24)]
Count = Annotated[int, Field(ge=0, le=2**50)]
Text = Annotated[str, Field(max_length=4096)]
FileName = Annotated[str, Field(pattern=r"^(\w[\w-]*/){0,3}\w[\w-]*(\.[\w-]+)*$", max_length=255)]


def _checked_site(site: str) -> str:
    """The site; ValueError if it is none."""
    parse_site(site)
    return site


class SAEFacts(Document):
    """The SAE whose latents these are."""

    name: Text
    source: Text | None = None
    """A URL, or a hub id with its commit; None for a local SAE, whose path is in `Places`."""
    site: Annotated[Text, AfterValidator(_checked_site)]
    target_site: Text | None = None
    """The site a transcoder writes; None for an SAE."""
    d_in: Size
    d_out: Size
    d_sae: Size
    architecture: Text = "jumprelu"
    fingerprint: Text
    """Of its tensors."""
    l0: float | None = None
    model: Text | None = None


class StoreFacts(Document):
    """The activation store that was read."""

    key: Text
    """Identifies the rows and their order, whatever their place and codec."""
    site: Text
    rows: Count
    """Rows in it; `Manifest.rows` of them were read."""


class TokensFacts(Document):
    """The token store that snippets come from."""

    fingerprint: Text
    split: Text
    context: Size


class OtherFacts(Document):
    """Another SAE; its latents nearest to each of this SAE's are listed."""

    name: Text
    """Its name in records, tables and pages."""
    fingerprint: Text
    """Of its tensors."""


class Manifest(Document):
    """What an index was made from. `write_index` fills in the fields below `settings`."""

    format: Literal["latents-index"] = FORMAT
    version: Annotated[str, Field(pattern=r"^1\.\d{1,4}$")] = VERSION
    sae: SAEFacts
    model: Text
    """The language model's public name."""
    model_fingerprint: Text | None = None
    tokenizer: Text
    """The tokenizer's fingerprint."""
    store: StoreFacts
    tokens: TokensFacts
    others: list[OtherFacts] = Field(default=[], max_length=1024)
    """The SAEs that it is compared with."""
    settings: dict[str, Any]
    """The settings that decide what is in the files."""
    rows: Count = 0
    n_alive: Count = 0
    """Latents that fire in at least one row."""
    together_rows: Count = 0
    """Rows over which firing together is counted."""
    masked: dict[Text, Count] = Field(default={})
    """Kind of output token that is never listed -> how many."""
    logit_path: Text = ""
    """The way from a decoder row to the logits; or why output tokens are not listed."""
    position_edges: list[Count] = Field(default=[], max_length=4096)
    bands: Count = 0
    """Number of bands: equal shares of a latent's firings, by strength. Examples come from each."""
    files: dict[FileName, Count] = Field(default={})
    """Name in the folder -> size in bytes, of all files but this one and those of explanations,
    scores and ratings."""

    @property
    def layer(self) -> int:
        """The layer of the site that the SAE reads."""
        return parse_site(self.sae.site).layer

    @property
    def features_file(self) -> str:
        """The file with circuit-tracer's records."""
        return f"features/layer_{self.layer}.bin"


class Places(Document):
    """Where an index was made from: URLs, hub ids, and absolute paths of its maker's machine."""

    sae: Text
    store: Text
    tokens: Text
    model: Text


class _Kind(Document):
    format: Text
    version: Text


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished index.

    Raises:
        OSError: there is no such folder, or the index in it is unfinished.
        ValueError: the folder holds something else or another version, or the document is
            damaged.
    """
    path = folder / NAME
    if not folder.is_dir():
        raise FileNotFoundError(
            f"index must be a folder that `scopeworks latents index` wrote, got {folder}, which "
            "does not exist"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"index in {folder} must be finished, got none or a part of one (no {NAME}); run "
            "`scopeworks latents index` with the same settings again, it continues"
        )
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise ValueError(f"{path} must have at most {_MOST_BYTES:,} bytes, got {size:,}")
    value = parse_json(path.read_bytes(), str(path))
    kind = validated(_Kind, value, str(path))
    if kind.format != FORMAT:
        raise ValueError(f"{path} must be the manifest of a {FORMAT}, got {short(kind.format)!r}")
    if kind.version.split(".")[0] != VERSION.split(".", maxsplit=1)[0]:
        raise ValueError(
            f"{path} must be of version {VERSION}, got {short(kind.version)}; make the index again "
            "with this version of scopeworks"
        )
    return validated(Manifest, value, str(path))


def read_places(folder: Path) -> Places | None:
    """The places an index was made from; None if the folder has no `places.json`.

    Raises:
        ValueError: the document is damaged.
    """
    path = folder / PLACES
    if not path.is_file():
        return None
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise ValueError(f"{path} must have at most {_MOST_BYTES:,} bytes, got {size:,}")
    return read_document(Places, path.read_bytes(), str(path))
