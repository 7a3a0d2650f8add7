"""Command-line options made from settings: a field's name, type, default and docstring give a flag.

Owns how a flag is spelt, parsed and explained. The settings class owns what a setting means and
which values it may have.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from typer.core import HAS_RICH, TyperCommand

from .settings import Settings, SettingsT, parse_pairs, resolve

_SHORT = 110
"""Characters of a docstring that `--help` shows: the first sentence, and more sentences if they
fit. `--help-all` shows the whole docstring."""

_MORE = "More settings"
_ONE, _MANY, _PAIRS = "one", "many", "pairs"


@dataclass(frozen=True)
class Given(Generic[SettingsT]):
    """What a user gave on the command line: settings by name, and the file with more settings."""

    kind: type[SettingsT]
    config: Path | None
    parse: Callable[[], dict[str, Any]]
    hint: str = ""

    @cached_property
    def values(self) -> dict[str, Any]:
        """Setting -> value, from the flags. They are parsed on first use, inside the command, so
        that its ranks can tell each other of an error.

        Raises:
            ValueError: a pair is not KEY=VALUE.
        """
        return self.parse()

    def settings(self, **more: Any) -> SettingsT:
        """The settings: values from `more`, then flags, then the file, then defaults. Raises the
        errors of `resolve`."""
        return resolve(self.kind, self.config, self.hint, **(self.values | more))


def command(
    app: typer.Typer,
    kind: type[Settings],
    common: str = "",
    *,
    arguments: str = "",
    several: str = "",
    spelt: Mapping[str, str] | None = None,
    config: bool = True,
    **shown: Any,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator that makes `run(given, …)` a command with a flag for every setting of `kind`.

    Further parameters of `run`, after `given`, are options of the command itself.

    Args:
        app: the Typer app that gets the command.
        kind: the settings class.
        common: settings that `--help` explains. It only names the others, which `--help-all`
            explains. By default `--help` explains all settings.
        arguments: settings that are given without a flag.
        several: settings of one value whose flags may be repeated, to give a list of values.
        spelt: setting -> its flags, if they do not follow from its name; such as "--yes/--no".
        config: whether the command has --config, for a file of settings.
        shown: further arguments of `typer.Typer.command`.
    """
    options = _Options(
        kind, common.split(), arguments.split(), several.split(), spelt or {}, config
    )

    def register(run: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(run).parameters.values())[1:]

        def call(**given: Any) -> None:
            beside = {one.name: given[one.name] for one in own}
            file = given["config"] if config else None
            run(Given(kind, file, partial(options.values, given), options.hint), **beside)

        paragraphs = inspect.cleandoc(run.__doc__ or "").split("\n\n")
        call.__name__, call.__doc__ = run.__name__, "\n\n".join(map(_one_line, paragraphs))
        call.__signature__ = options.signature(own)  # pyright: ignore[reportFunctionMemberAccess]
        app.command(cls=_Command, epilog=options.epilog, **shown)(call)
        return run

    return register


@dataclass(frozen=True)
class _Options:
    """The options of one command; see `command`."""

    kind: type[Settings]
    common: list[str]
    arguments: list[str]
    several: list[str]
    spelt: Mapping[str, str]
    has_config: bool
    flags: dict[str, str] = field(init=False, default_factory=dict)
    """Setting -> its flags."""

    def __post_init__(self) -> None:
        """Sets `flags`."""
        for one in self.kind.__mro__:  # its own settings before those of its bases
            for name in inspect.get_annotations(one):
                if name in self.kind.model_fields and name not in self.flags:
                    setting = self.kind.model_fields[name]
                    plain = _spelling(setting.alias or name, setting.annotation)
                    self.flags[name] = self.spelt.get(name) or plain

    @property
    def hint(self) -> str:
        """Text that tells how to give a missing setting; {} stands for its flag."""
        return " (as {} or in the config file)" if self.has_config else " (as {})"

    @property
    def rest(self) -> list[str]:
        """Settings that `--help` only names."""
        shown = {*self.arguments, *self.common}
        return [name for name in self.flags if self.common and name not in shown]

    @property
    def epilog(self) -> str | None:
        """The last line of `--help`, which names the `rest`."""
        names = ", ".join(self.flags[name].partition("/")[0] for name in self.rest)
        return f"{_MORE}, which --help-all explains: {names}" if names else None

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Setting -> value, from what typer parsed; without settings that were not given."""
        fields = self.kind.model_fields
        values = {name: given[name] for name in fields if given[name] is not None}
        for name, value in values.items():
            if _shape(fields[name].annotation)[1] == _PAIRS:
                values[name] = parse_pairs(value, self.flags[name])
        return {fields[name].alias or name: value for name, value in values.items()}

    def signature(self, own: list[inspect.Parameter]) -> inspect.Signature:
        """The parameters from which typer makes the command: common settings, the command's own
        options, the rest."""
        first = [*self.arguments, *self.common]
        first += [name for name in self.flags if name not in (*first, *self.rest)]
        listed = [*map(self._parameter, first), *own, *[self._config()] * self.has_config]
        listed += [_HELP_ALL, *map(self._parameter, self.rest)] if self.rest else []
        kind = inspect.Parameter.KEYWORD_ONLY
        return inspect.Signature([one.replace(kind=kind) for one in listed])

    def _config(self) -> inspect.Parameter:
        switches = any("/--no-" in flag for flag in self.flags.values())
        off = " (--no-X switches off what it switches on)" if switches else ""
        text = f"TOML file of settings; flags win{off}."
        return _parameter("config", Path | None, typer.Option(help=text, metavar="<path>"))

    def _parameter(self, name: str) -> inspect.Parameter:
        setting, default = self.kind.model_fields[name], None
        each, shape = _shape(setting.annotation)
        # The entries of a list stay text here: the settings class parses them and reports errors.
        parsed = each if shape == _ONE else list[str]
        if name in self.several:
            shape, parsed = _MANY, list[each]
        text = _help_text(setting, each, shape, self.flags)
        if name in self.arguments:
            text = text.replace(" Required.", "")  # typer says so itself
            info = typer.Argument(help=text, show_default=False, metavar=setting.alias)
            default = inspect.Parameter.empty if setting.is_required() else None
        else:
            word = "choice" if get_origin(each) is Literal else each.__name__.lower()
            word = "KEY=VALUE" if shape == _PAIRS else f"<{word}>"
            numeric = each in (int, float) and parsed != list[str]
            parser = partial(_number, each) if numeric else None
            info = typer.Option(self.flags[name], help=text, metavar=word, parser=parser)
            if name in self.rest:
                info.rich_help_panel, info.hidden = _MORE, True
        return _parameter(name, parsed | None, info, default)


class _Command(TyperCommand):
    """A command whose help is short or whole. The help leaves out flags that begin with --no-."""

    whole = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """See `TyperCommand`; shows the short or the whole half of each help text, which a form
        feed separates."""
        option: Any
        for option in self.get_params(ctx):
            short, mark, long = (getattr(option, "help", None) or "").partition("\f")
            if mark:
                text = long if self.whole or not self.epilog else short
                # rich would read square brackets as markup.
                option.help = text.replace("[", r"\[") if HAS_RICH else text
                option.hidden = option.hidden and not self.whole
            if getattr(option, "is_flag", False):
                option.metavar = ""
                option.secondary_opts = [o for o in option.secondary_opts if o[:5] != "--no-"]
        self.epilog = None if self.whole else self.epilog
        super().format_help(ctx, formatter)


def _explain_all(ctx: typer.Context, wanted: bool) -> None:
    """Shows the whole help and ends."""
    if wanted:
        ctx.command.whole = True  # pyright: ignore[reportAttributeAccessIssue]
        typer.echo(ctx.get_help())
        raise typer.Exit


def _parameter(name: str, taken: Any, info: Any, default: Any = None) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=Annotated[taken, info])


_HELP_ALL = _parameter(
    "help_all",
    bool,
    typer.Option("--help-all", help="Explain all settings.", is_eager=True, callback=_explain_all),
    False,
)


def _number(kind: type[int] | type[float], text: str) -> int | float | str:
    """A number; a text that is none stays as it is, for the settings class to refuse it."""
    try:
        return kind(text)
    except ValueError:
        return text


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _shape(kind: Any) -> tuple[Any, str]:
    """The type of one value of a field, and whether the field holds one, many or pairs.

    Of a union, the first member that can be repeated counts; if there is none, the first member.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _shape(inner[0])
    if origin in (Union, UnionType):
        ways = [_shape(one) for one in inner if one is not NoneType]
        return next((way for way in ways if way[1] != _ONE), ways[0])
    if origin in (tuple, list):
        return _shape(inner[0])[0], _MANY
    return (str, _PAIRS) if origin is dict else (kind, _ONE)


def _spelling(name: str, kind: Any) -> str:
    """A field's flags; a dictionary's loses its plural s, because it is given once per pair."""
    (each, shape), flag = _shape(kind), "--" + name.replace("_", "-")
    if each is bool:
        return f"{flag}/--no{flag[1:]}"
    return flag.removesuffix("s") if shape == _PAIRS else flag


def _help_text(setting: FieldInfo, each: Any, shape: str, flags: Mapping[str, str]) -> str:
    """A field's docstring as short and whole help, separated by a form feed; both end with choices
    and default."""
    whole = _one_line(setting.description or "")
    whole = re.sub(r"`(\w+)`", lambda m: flags.get(m[1], m[0]).partition("/")[0], whole)
    short, *others = re.split(r"(?<=\.) (?=[^a-z])", whole)
    for sentence in others:
        if len(short) + len(sentence) >= _SHORT:
            break
        short = f"{short} {sentence}"
    choices, default = get_args(each), setting.get_default(call_default_factory=True)
    facts = [f"One of {', '.join(map(str, choices))}."] if choices else []
    facts += ["Repeat for more."] * (shape != _ONE) + ["Required."] * setting.is_required()
    if not setting.is_required() and default is not False and default not in (None, (), [], {}):
        facts.append(f"Default: {f'{default:g}' if isinstance(default, float) else default}.")
    both = (" ".join((text, *facts)) for text in (short, whole))
    return "\f".join(text.replace("`", "") for text in both)
