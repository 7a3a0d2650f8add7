"""Settings: what wins, and what the errors say."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
import torch
from pydantic import Field, model_validator

from scopeworks.settings import Settings, differences, dump, parse_pairs, resolve


class Example(Settings):
    width: int = Field(gt=0)
    """Latents."""
    sparsity: float = 1e-3
    """λ."""


def _toml(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_the_file_and_none_is_not_given(tmp_path: Path):
    config = _toml(tmp_path, "width = 8\nsparsity = 0.5\n")
    assert resolve(Example, config, width=16, sparsity=None) == Example(width=16, sparsity=0.5)


def test_a_dtype_of_torch_goes_by_its_name():
    class Typed(Settings):
        dtype: Literal["bfloat16", "float32"]

    assert Typed(dtype=torch.float32).dtype == "float32"  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^dtype must be .*, got 'float16'$"):
        Typed(dtype=torch.float16)  # pyright: ignore[reportArgumentType]


def test_dump_reads_back():
    example = Example(width=3)
    assert Example.model_validate_json(dump(example)) == example


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width = 8\nsparsty = 1", r"unknown setting 'sparsty'; did you mean 'sparsity'\?"),
        ("width = 8\nzzz = 1", "unknown setting 'zzz'; known settings: sparsity, width"),
        ("", "width must be given"),
        ("width = -1", "width must be greater than 0, got -1"),
        ("width = 1\nsparsity = nan", "sparsity must be a finite number"),
        ("width = ", "not valid TOML"),
        (f"width = '{'x' * 999}'", "got 'x{58}…"),
    ],
)
def test_bad_files_are_explained_with_their_name(tmp_path: Path, text: str, message: str):
    with pytest.raises(ValueError, match=message) as raised:
        resolve(Example, _toml(tmp_path, text))
    assert "run.toml" in str(raised.value)


def test_rule_between_settings_is_said_without_listing_them():
    class Pair(Settings):
        low: int
        high: int

        @model_validator(mode="after")
        def _ordered(self) -> "Pair":
            if self.low > self.high:
                raise ValueError("low must be at most high")
            return self

    with pytest.raises(ValueError, match=r"^low must be at most high$"):
        resolve(Pair, low=2, high=1)


def test_absent_file_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"none\.toml does not exist"):
        resolve(Example, tmp_path / "none.toml")


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Example(width=1).width = 2  # pyright: ignore[reportAttributeAccessIssue]


def test_differences_name_both_values():
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ["b: 2 → 3", "c: None → 4"]


def test_differences_go_into_tables_and_stay_short():
    texts = [f"/corpus/{i:04}.txt" for i in range(700)]
    old = {"rows": 1, "provenance": {"dtype": "float32", "text": texts, "note": "x" * 999}}
    new = {"rows": 1, "provenance": {"dtype": "bfloat16", "text": [*texts], "note": "y" * 999}}
    new["provenance"]["text"][30] = "/corpus/other.txt"  # type: ignore[index]
    dtype, note, text = differences(old, new)
    assert dtype == "provenance.dtype: 'float32' → 'bfloat16'"
    assert len(note) < 200
    assert text == (
        "provenance.text: 700 entries → 700 entries, entry 30: "
        "'/corpus/0030.txt' → '/corpus/other.txt'"
    )
    longer = differences({"text": texts}, {"text": [*texts, "one more"]})
    assert longer == ["text: 700 entries → 701 entries, entry 700: None → 'one more'"]


def test_pairs_are_json_where_they_can_be():
    found = parse_pairs(["anon=true", "n=3", "key=a=b"], "--x")
    assert found == {"anon": True, "n": 3, "key": "a=b"}
    for wrong, message in ((["x"], "--x must be key=value, got 'x'"), (["a=1", "a=2"], "it twice")):
        with pytest.raises(ValueError, match=message):
            parse_pairs(wrong, "--x")


class _Many(Settings):
    lr: float = 1.0
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0
    f: int = 0
    g: int = 0
    h: int = 0
    i: int = 0
    j: int = 0


class _Goal(Settings):
    target_l0: float | None = None
    steps: Annotated[int, Field(gt=0)] | None = None
    out: Path | None = None
    resume: bool | float = False


def test_names_of_other_libraries_are_understood_where_the_setting_exists():
    with pytest.raises(ValueError, match=r"^unknown setting 'learning_rate'; did you mean 'lr'\?$"):
        _Many(learning_rate=1)  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match=r"^unknown setting 'l0'; did you mean 'target_l0'\?$"):
        _Goal(l0=20)  # pyright: ignore[reportCallIssue]
    known = r"known settings: a, b, c, d, e, f, g, h, i, j and 1 more$"
    with pytest.raises(ValueError, match=rf"^unknown setting 'batch_size'; {known}"):
        _Many(batch_size=1)  # pyright: ignore[reportCallIssue]


def test_true_and_false_are_no_numbers():
    for name, rule in (("steps", "a whole number"), ("target_l0", "a number")):
        with pytest.raises(ValueError, match=f"^{name} must be {rule}, got True$"):
            _Goal(**{name: True})
    assert _Goal(resume=True).resume is True


def test_what_is_no_path_is_told_in_plain_words():
    with pytest.raises(ValueError, match=r"^out must be a path, got 3$"):
        _Goal(out=3)  # pyright: ignore[reportArgumentType]
