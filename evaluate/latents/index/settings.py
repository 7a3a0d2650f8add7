"""Settings of `scopeworks latents index`.

Owns names, defaults and the rules between them, and the list of those that do not decide what an
index holds.
"""

from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from ....arguments import several
from ....harvest.settings import StageSettings
from ....store.place.files import local_path
from ....store.place.place import Place
from ....train.sae.hub import is_url

NOT_DECIDING = ("sae", "store", "model", "tokens", "out", "dask", "device", "compare")
"""Settings that do not change the pass: places, device, workers, and SAEs to compare with."""


class IndexSettings(StageSettings):
    """Settings of an index: its inputs, and what is listed of each latent."""

    sae: str
    """Trained folder, params.npz, SAELens or Gemma Scope 2 folder: a path, a URL, or
    `hf://USER/REPOSITORY[@REVISION]/FOLDER`."""
    store: str
    """URL of the activation store with rows of the SAE's site."""
    model: str
    """Language model the rows come from: a folder or a hub id. Its tokenizer and its unembedding
    are used; it is not run."""
    tokens: str
    """URL of the token store that was harvested; snippets come from it."""
    out: Path
    """Folder of the index."""

    site: str | None = None
    """Site the SAE reads, `<kind>.<layer>`; needed only for foreign files without it."""
    target_site: str | None = None
    """Site a transcoder replaces; needed only for foreign files without it."""
    compare: tuple[str, ...] = ()
    """Other SAEs on rows of the same width; the index lists their latents nearest to this SAE's."""
    rows: PositiveInt | None = None
    """Number of rows to read from the store's start, rounded up to whole buckets; by default
    all."""
    device: str = "auto"
    """Device of the encoder's products: cpu, cuda, …; auto takes CUDA if there is one."""
    before: NonNegativeInt = 20
    """Tokens of a snippet before the one at which the latent fires."""
    after: NonNegativeInt = 11
    """Tokens of a snippet after it; by default a snippet has 32 tokens, as is usual in automatic
    interpretation."""
    top: PositiveInt = Field(default=10, le=100)
    """Number of strongest examples of a latent."""
    bands: NonNegativeInt = Field(default=5, le=20)
    """Bands of equal shares of a latent's firings by strength, from which examples are drawn; 0
    draws none."""
    per_band: PositiveInt = Field(default=3, le=100)
    """Number of examples from each band."""
    together_rows: PositiveInt = 262144
    """Rows over which firing together is counted: about so many, evenly drawn, or all; fewer if
    very many latents fire."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of all draws."""

    @field_validator("compare", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return several(value)

    @field_validator("out")
    @classmethod
    def _is_local(cls, value: Path) -> Path:
        return local_path(value)

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> "IndexSettings":
        """Refuses an option that would have no effect."""
        if self.bands == 0 and self.per_band != type(self).model_fields["per_band"].default:
            raise ValueError("per_band has no effect with bands 0; leave it out")
        remote = any(Place(url).is_remote for url in (self.tokens, self.store))
        remote = remote or any(is_url(sae) for sae in (self.sae, *self.compare))
        if self.storage_options is not None and not remote:
            raise ValueError(
                "storage_options has no effect on local tokens, rows and SAE; leave it out"
            )
        return self

    @property
    def window(self) -> int:
        """Most tokens of a snippet."""
        return self.before + 1 + self.after
