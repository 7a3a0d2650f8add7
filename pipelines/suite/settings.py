"""The suite file: a whole run described once, from text to release.

Owns the tables of the file and their errors, which name file, table and key. The stage that reads a
table decides what its keys mean: `[text]` takes the settings of tokenize, `[[harvest]]` of harvest,
`[train]` and `[[sae]]` of train, `[evaluate]` of evaluate, `[latents]` of an index, without those
that the suite fills in itself. `members` lists the SAEs that a suite asks for; `outputs` has the
places of its outputs.
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

from ...arguments import several
from ...harvest.model.files import model_place
from ...settings import Settings, SettingsT, from_table, one_or_several, read_toml
from ...store.place.files import local_path
from ...store.place.options import StorageSettings

STDLIB_QUESTIONS = "python:questions"
"""In `twin.prompts`: questions about the standard library's held-out modules."""

Table = dict[str, Any]
"""A table whose keys are the settings of a stage."""


Several = Annotated[tuple[str, ...], BeforeValidator(one_or_several)]
"""A text, or a list of texts."""


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    """A range from low to high."""
    if value[0] > value[1]:
        raise ValueError("must be [low, high] with low at most high")
    return value


PriceRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)]
"""[low, high]."""


class TextSettings(Settings):
    """The keys of `[text]` that are not settings of tokenize."""

    sources: Several = ()
    """Files, folders, globs, URLs, hf:NAME, or python:stdlib."""
    store: str | None = None
    """Path or URL of an existing token store, instead of sources."""


class PriceSettings(Settings):
    """Ranges of prices in US dollars, for `scopeworks study storing`; the defaults are list prices
    of 2024 and 2025, rounded."""

    gpu_hour: PriceRange = (2.0, 12.0)
    """Dollars for an hour of an H100: from a specialised cloud on demand to a large cloud."""
    machine_hour: PriceRange = (0.05, 0.1)
    """Dollars for an hour of a virtual machine with two cores and 8 GB at a large cloud, from spot
    to on demand."""
    tb_month: PriceRange = (6.0, 23.0)
    """Dollars for a terabyte of object storage and month: from cheap providers to a large cloud's
    standard class."""


class ReleaseSettings(Settings):
    """The contents of the release folder."""

    formats: Several = ("gemma-scope", "sae-lens")
    """Formats of `scopeworks export`; every SAE is written in each."""
    license: str = "cc-by-4.0"
    """Identifier of the SAEs' license; Gemma Scope's own are CC BY 4.0."""
    text: str | None = None
    """Description of the text for the model card; by default the names of hub data sets."""
    repo: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """Hub id that the model card's examples name."""
    limits: Several = ()
    """Sentences for the model card's section on limits."""


class TwinSettings(Settings):
    """An instruction-tuned model beside the suite's, for the study of transfer."""

    model: str | None = None
    """Folder or hub id; by default the known twin of the suite's model."""
    prompts: Several = ()
    """Files, globs, URLs or hf:NAME with one user prompt a document, or python:questions, the
    default of the model that ships."""

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
    """Folder for everything that has no other place below; a mounted disk in batch jobs."""
    tokens: str | None = None
    """Folder or URL under which token stores are kept; by default `tokens` in `out`."""
    stores: str | None = None
    """Folder or URL under which activation stores are kept, for this suite and for others that name
    it; by default `stores` in `out`."""
    checkpoints: str | None = None
    """Folder or URL under which checkpoints are kept; by default in each SAE's folder."""
    read: Several = ()
    """Activation stores that are read and never written; sites in them are not harvested."""
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
    """`sources`, or `store` (an existing token store), and the settings of tokenize."""
    harvest: tuple[Table, ...] = ({},)
    """Settings of harvest; by default for all sites that the SAEs read. Several tables give some
    sites other settings; a table without `site` takes the sites that the others leave."""
    train: Table = Field(default_factory=dict)
    """Settings of train that all SAEs share."""
    sae: tuple[Table, ...] = Field(min_length=1)
    """Settings of train; site, width, sparsity or target_l0, and seed may be lists, which make a
    grid."""
    evaluate: Table = Field(default_factory=dict)
    """Settings of evaluate; with `model` or `tokens` the SAEs are measured on these instead of the
    suite's own."""
    latents: Table | None = None
    """Settings of `latents index`, and `of`: which SAEs get an index; without the table none."""
    twin: TwinSettings = Field(default_factory=TwinSettings)
    """The instruction-tuned model for the study of transfer."""
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
        given: the path or the preset's name, as the user gave it.
        path: the file.
        changes: the given changes, each `table.key=value`.
        suite: the settings of the file with the changes.
        text: the file's bytes, to notice later changes of it.
    """

    def __init__(self, path: str | Path, changes: str | Sequence[str] = (), options: Any = None):
        """Reads and checks the file.

        Raises:
            FileNotFoundError, ValueError: naming file, table and key.
        """
        path = Path(path)
        self.given, self.path, self.changes = path, preset_path(path), several(changes)
        if not self.path.is_file():
            raise FileNotFoundError(_no_file(path))
        values = read_toml(self.path)
        self.text = self.path.read_bytes()
        for change in self.changes:
            _apply(values, change)
        if options:
            values["storage_options"] = options
        self.suite = from_table(Suite, values, f"suite {self.path}")

    @classmethod
    def of(cls, suite: "AnySuite") -> "SuiteFile":
        """The suite itself, or one read from a path or a preset's name; errors as `SuiteFile`."""
        return suite if isinstance(suite, SuiteFile) else cls(Path(suite))

    def __repr__(self) -> str:
        changes = "".join(f", {change}" for change in self.changes)
        return f"SuiteFile({self.suite.name}: {self.given}{changes})"

    def check_unchanged(self) -> None:
        """Raises ValueError if the file's content has changed since it was read."""
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
        """A stage's settings from a table's values and from those that the suite fills in.

        Raises:
            ValueError: naming file, table and key, if the key is filled in by the suite or unknown,
                or its value is out of range.
        """
        where = f"suite {self.path}, {table}"
        for name in sorted(filled.keys() & values.keys()):
            raise ValueError(f"{where}: {name} is filled in by the suite; leave it out")
        given = {name: value for name, value in filled.items() if value is not None}
        return from_table(kind, values | given, where)


AnySuite = SuiteFile | str | Path
"""A suite, its file, or the name of a preset."""


def preset_path(path: Path) -> Path:
    """The file at this path, or the preset of this name (`demo`, `one-gpu-weekend`)."""
    preset = presets().get(str(path))
    return path if path.is_file() or preset is None else preset


def _no_file(path: Path) -> str:
    """The error for a missing file: names the nearest preset and all presets."""
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
