"""The suite file: a whole run described once, from text to release.

Owns the tables of the file and their errors, which name file, table and key. What a table's keys
mean is said by the stage that reads them: `[text]` takes tokenize's settings, `[[harvest]]`
harvest's, `[train]` and `[[sae]]` train's, `[evaluate]` evaluate's, `[latents]` those of an index,
without those that the suite fills in itself. Which SAEs a suite asks for is said by `members`,
where outputs are by `outputs`.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from ...harvest.model.files import model_place
from ...settings import Settings, SettingsT, from_table, read_toml
from ...store.place.files import local_path
from ...store.place.options import StorageSettings

STDLIB_QUESTIONS = "python:questions"
"""Stands in `twin.prompts` for questions about the standard library's held-out modules."""

Table = dict[str, Any]
"""A table whose keys another stage's settings explain."""


def _several(value: Any) -> Any:
    """One value or several."""
    return (value,) if isinstance(value, str) else value


Several = Annotated[tuple[str, ...], BeforeValidator(_several)]
"""A text, or a list of texts."""


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    """A range from low to high."""
    if value[0] > value[1]:
        raise ValueError("must be [low, high] with low at most high")
    return value


PriceRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)]
"""[low, high]."""


class TextSettings(Settings):
    """Keys of `[text]` that are no settings of tokenize."""

    sources: Several = ()
    """Files, folders, globs, URLs, hf:NAME, or python:stdlib."""
    store: str | None = None
    """A token store that is there, instead of sources."""


class PriceSettings(Settings):
    """Ranges of prices in US dollars, for `scopeworks study storing`; the defaults are list prices
    of 2024 and 2025, rounded."""

    gpu_hour: PriceRange = (2.0, 12.0)
    """Of an H100: from specialised clouds on demand to a large one."""
    machine_hour: PriceRange = (0.05, 0.1)
    """Of a virtual machine of two cores and 8 GB, from spot to on demand (a large cloud's)."""
    tb_month: PriceRange = (6.0, 23.0)
    """Of a terabyte of object storage: from cheap providers to a large cloud's standard class."""


class ReleaseSettings(Settings):
    """What the release folder holds."""

    formats: Several = ("gemma-scope", "sae-lens")
    """Formats of `scopeworks export`; every SAE is written in each."""
    license: str = "cc-by-4.0"
    """Identifier of the SAEs' license; Gemma Scope's own are CC BY 4.0."""
    text: str | None = None
    """What the text is, in words for the model card; by default the names of hub data sets."""
    repo: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """Hub id that the model card's examples name."""
    limits: Several = ()
    """Sentences for the model card's section on limits."""


class TwinSettings(Settings):
    """An instruction-tuned model beside the suite's, for the study of transfer."""

    model: str | None = None
    """Folder or hub id; by default the suite's own twin, of those that are known."""
    prompts: Several = ()
    """Files, globs, URLs or hf:NAME with a user's prompt a document, or python:questions, which the
    model that ships takes by default."""

    @field_validator("model")
    @classmethod
    def _shipped(cls, value: str | None) -> str | None:
        return None if value is None else model_place(value)


class Suite(StorageSettings):
    """A whole run: tokenize → harvest → train → evaluate → release → report → latents."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}$")
    """Name of the run and of its release."""
    model: str
    """Folder or hub id of the language model; tiny_gemma2 and tiny_gemma2_it ship."""
    out: Path
    """Folder for everything that has no place of its own below; a mounted disk in batch jobs."""
    tokens: str | None = None
    """Folder or URL under which token stores are kept; by default `tokens` in `out`."""
    stores: str | None = None
    """Folder or URL under which activation stores are kept, for this suite and for others that name
    it; by default `stores` in `out`."""
    checkpoints: str | None = None
    """Folder or URL under which checkpoints are kept; by default in each SAE's folder."""
    read: Several = ()
    """Activation stores that are only read: sites they hold are not harvested."""
    device: str = "auto"
    """torch device of every step; auto takes CUDA where there is one."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of every shuffle and start for which a table gives none."""
    dask: str | None = None
    """Dask cluster on which tokenize, harvest, train and evaluate run: local:N, a scheduler's
    address or a scheduler file."""
    together: PositiveInt = 16
    """SAEs of one site that are trained at once on one stream, as memory allows."""
    text: Table
    """`sources`, or `store` (a token store that is there), and the settings of tokenize."""
    harvest: tuple[Table, ...] = ({},)
    """Settings of harvest; by default the sites that the SAEs read. Several tables: sites with
    rows of their own; a table without `site` takes what the others leave."""
    train: Table = Field(default_factory=dict)
    """Settings of train that all SAEs share."""
    sae: tuple[Table, ...] = Field(min_length=1)
    """Settings of train; those of a grid (site, width, sparsity or target_l0, seed)
    may be lists."""
    evaluate: Table = Field(default_factory=dict)
    """Settings of evaluate; `model` and `tokens` are those that the SAEs are measured on, where
    they are not the suite's."""
    latents: Table | None = None
    """Settings of `latents index`, and `of`: which SAEs get one; without the table none does."""
    twin: TwinSettings = Field(default_factory=TwinSettings)
    """The instruction-tuned model that the study of transfer takes."""
    release: ReleaseSettings = Field(default_factory=ReleaseSettings)
    prices: PriceSettings = Field(default_factory=PriceSettings)
    """What storage and machines cost, for the study of storing; a run reads none of it."""
    batch: Table = Field(default_factory=dict)
    """How `scopeworks batch` sends the steps as jobs; a run reads none of it."""

    @field_validator("harvest", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, Mapping) else value

    @field_validator("model")
    @classmethod
    def _shipped(cls, value: str) -> str:
        return model_place(value)

    @field_validator("out")
    @classmethod
    def _is_local(cls, value: Path) -> Path:
        return local_path(value)


class SuiteFile:
    """A suite and the file it comes from.

    Attributes:
        given: as it was named: a path, or a preset's name.
        path: the file.
        changes: `table.key=value` that were given beside it.
        suite: what both say.
        text: the file's content, to notice that it has changed.
    """

    def __init__(self, path: Path, changes: Sequence[str] = (), options: Any = None):
        """Reads and checks the file.

        Raises:
            FileNotFoundError, ValueError: naming file, table and key.
        """
        self.given, self.path, self.changes = path, preset_path(path), tuple(changes)
        if not self.path.is_file():
            raise FileNotFoundError(_no_file(path))
        values = read_toml(self.path)
        self.text = self.path.read_bytes()
        for change in changes:
            _apply(values, change)
        if options:
            values["storage_options"] = options
        self.suite = from_table(Suite, values, f"suite {self.path}")

    def check_unchanged(self) -> None:
        """Raises ValueError if the file has another content than when it was read."""
        if not self.path.is_file() or self.path.read_bytes() != self.text:
            raise ValueError(
                f"suite {self.path} has changed since this run began; what is done is kept: run "
                "the command again to go on by the new file"
            )

    @property
    def text_table(self) -> TextSettings:
        """The keys of `[text]` that are the suite's own.

        Raises:
            ValueError: naming file, table and key.
        """
        own = {k: v for k, v in self.suite.text.items() if k in TextSettings.model_fields}
        return self.table(TextSettings, "[text]", own)

    def table(self, kind: type[SettingsT], table: str, values: Table, **filled: Any) -> SettingsT:
        """A stage's settings from a table and from what the suite fills in.

        Raises:
            ValueError: naming file, table and key: one that the suite fills in itself, that is not
                known, or whose value is out of range.
        """
        where = f"suite {self.path}, {table}"
        for name in sorted(filled.keys() & values.keys()):
            raise ValueError(f"{where}: {name} is filled in by the suite; leave it out")
        given = {name: value for name, value in filled.items() if value is not None}
        return from_table(kind, values | given, where)


def preset_path(path: Path) -> Path:
    """The file itself, or the preset of that name (`demo`, `one-gpu-weekend`)."""
    preset = presets().get(str(path))
    return path if path.is_file() or preset is None else preset


def _no_file(path: Path) -> str:
    """What to pass instead of a file that is not there."""
    close = difflib.get_close_matches(str(path), presets(), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return (
        f"suite {path} does not exist; {hint}pass a TOML file, or a preset: {', '.join(presets())}"
    )


def presets() -> dict[str, Path]:
    """Name -> file of every suite that comes with the project."""
    folder = Path(str(files("scopeworks.pipelines") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _apply(values: Table, change: str) -> None:
    """Puts `table.key=value` (a TOML value) into the file's values; `sae.key` goes into every table
    of that name."""
    name, separator, text = change.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not separator or not all(keys):
        raise ValueError(f"--set must be table.key=value, got {change!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    tables: list[Table] = [values]
    for key in keys[:-1]:
        found = [table.setdefault(key, {}) for table in tables]
        tables = [one for many in found for one in (many if isinstance(many, list) else [many])]
        if not all(isinstance(one, dict) for one in tables):
            raise ValueError(f"--set {name} must name a key of a table, but {key} is a value")
    for table in tables:
        table[keys[-1]] = value
