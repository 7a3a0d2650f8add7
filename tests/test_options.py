"""Options from settings: flags, types, help and errors of a small model."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field, PositiveInt
from typer.testing import CliRunner

from scopeworks.options import Given, command
from scopeworks.settings import Settings

PLAIN = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}


class Cake(Settings):
    """What a command bakes."""

    flour: str | tuple[str, ...]
    """Kinds of flour, or `hub[@REVISION]` of one."""
    out: Path
    """Where it goes."""
    eggs: PositiveInt | None = None
    """Eggs; by default none. Unlike with `layers`, more are heavier, which takes a whole sentence
    to say and belongs into the long help alone."""
    layers: int = Field(default=0, ge=0)
    """Layers."""
    heat: float = 180.0
    """Degrees."""
    form: Literal["round", "square"] = "round"
    """Form."""
    glazed: bool = False
    """Whether it shines."""
    dots: list[Annotated[int, Field(lt=10)]] = Field(default_factory=list)
    """Dots on it."""
    storage_options: dict[str, Any] | None = None
    """Of the cellar."""


def call(words: str, common: str = "", **more: Any) -> list[Given[Cake]]:
    """What the command is given for these words."""
    seen: list[Given[Cake]] = []
    app = typer.Typer()

    @command(app, Cake, common, **more)
    def bake(given: Given[Cake], quick: bool = False) -> None:
        seen.append(given)

    CliRunner().invoke(app, words.split(), catch_exceptions=False)
    return seen


def shown(words: str, common: str = "") -> str:
    """What the command prints, on one line."""
    app = typer.Typer()

    @command(app, Cake, common)
    def bake(given: Given[Cake], quick: bool = False) -> None:
        """Bakes."""

    done = CliRunner().invoke(app, words.split(), env=PLAIN)
    return " ".join(done.output.replace("│", " ").split())


def test_flags_become_typed_settings():
    words = (
        "--flour a --flour b --out x --eggs 3 --heat 2e2 --form square --glazed --dots 1 --dots 2"
    )
    (given,) = call(f"{words} --storage-option n=1 --storage-option key=s")
    settings = given.settings()
    assert settings.flour == ("a", "b") and settings.out == Path("x")
    assert (settings.eggs, settings.heat, settings.form) == (3, 200.0, "square")
    assert settings.glazed and settings.dots == [1, 2]
    assert settings.storage_options == {"n": 1, "key": "s"}


def test_only_what_is_given_is_there():
    (given,) = call("--layers 0 --no-glazed --quick")
    assert given.values == {"layers": 0, "glazed": False}


def test_flags_win_over_the_file(tmp_path: Path):
    (tmp_path / "c.toml").write_text(
        'flour = "a"\nout = "x"\nlayers = 4\nglazed = true\neggs = 2\n'
    )
    (given,) = call(f"--config {tmp_path / 'c.toml'} --layers 2 --no-glazed")
    settings = given.settings(eggs=5)
    assert (settings.layers, settings.glazed, settings.eggs) == (2, False, 5)


def test_arguments_and_values_given_several_times_and_other_spellings():
    more = {"arguments": "flour", "several": "layers", "spelt": {"glazed": "--shiny/--dull"}}
    (given,) = call("a b --layers 1 --layers 2 --dull", **more)
    assert given.values == {"flour": ["a", "b"], "layers": [1, 2], "glazed": False}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--out x", r"flour must be given \(as --flour or in the config file\)"),
        ("--flour a --out x --eggs few", "eggs must be a whole number, got 'few'"),
        ("--flour a --out x --layers -1", "layers must be at least 0"),
        ("--flour a --out x --dots 1 --dots q", r"dots\.1 must be a whole number, got 'q'"),
        ("--flour a --out x --dots 10", r"dots\.0 must be less than 10, got '10'"),
        ("--config nowhere.toml", "config file nowhere.toml does not exist"),
        ("--storage-option anon", "--storage-option must be key=value, got 'anon'"),
        ("--storage-option a=1 --storage-option a=2", "--storage-option a must be given once"),
    ],
)
def test_errors_name_the_setting(words: str, error: str):
    with pytest.raises((ValueError, OSError), match=error):
        call(words)[0].settings()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--form oval", "Invalid value for '--form'"),
        ("--egg 3", "No such option: --egg"),
    ],
)
def test_what_is_no_value_of_the_type_is_refused_by_its_flag(words: str, error: str):
    assert error in shown(words)


def test_help_is_made_of_docstrings_choices_and_defaults():
    text = shown("--help")
    assert (
        "--flour <str> Kinds of flour, or hub[@REVISION] of one. Repeat for more. Required." in text
    )
    assert "--layers <int> Layers. Default: 0." in text
    assert "--heat <float> Degrees. Default: 180." in text
    assert "--form <choice> Form. One of round, square. Default: round." in text
    assert "--glazed Whether it shines. --dots" in text and "--no-glazed" not in text
    assert "Unlike with --layers, more are heavier" in text
    assert "--storage-option KEY=VALUE Of the cellar. Repeat for more." in text


def test_common_settings_are_explained_and_the_others_named():
    text = shown("--help", "flour eggs")
    assert "--eggs <int> Eggs; by default none. --quick" in text
    assert "Layers." not in text and text.index("--flour") < text.index("--eggs")
    assert "More settings, which --help-all explains: --out, --layers, --heat, --form" in text


def test_the_whole_help_explains_all():
    text = shown("--help-all", "flour eggs")
    assert "Unlike with --layers, more are heavier" in text
    assert "More settings ─" in text and "Layers. Default: 0." in text
    assert "which --help-all explains" not in text
