"""Verbs: public functions that take settings, or the fields of settings by name.

    train_sae(store="activations", site="resid_post.12", width=16384, out="sae")
    train_sae(TrainSettings(store="activations", site="resid_post.12", width=16384, out="sae"))

Owns how arguments become settings, and a verb's signature and docstring, which list the fields with
their docstrings. `options` does the same for the flags of commands.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from pydantic.fields import FieldInfo

from .settings import Settings

P = ParamSpec("P")
GivenT = TypeVar("GivenT")
ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)

LOADED = "lm"
"""Name of a verb's parameter for a loaded model, which callers pass as `model`."""


class Verb(Protocol[P, ResultT_co]):
    """A function of settings that can be called with the settings' fields."""

    __name__: str

    @overload
    def __call__(self, settings: Settings, /, **own: Any) -> ResultT_co: ...

    @overload
    def __call__(self, *args: P.args, **fields: P.kwargs) -> ResultT_co: ...

    @overload
    def __call__(self, **fields: Any) -> ResultT_co: ...


def takes(
    kind: Callable[P, GivenT],
) -> Callable[[Callable[..., ResultT]], Verb[P, ResultT]]:
    """Decorator for a function of settings: it can also be called with the fields by name.

    Its other parameters are then passed by name too.

    Args:
        kind: the settings class; the function's first parameter is an instance of it.
    """
    settings = cast(type[Settings], kind)

    def decorate(function: Callable[..., ResultT]) -> Verb[P, ResultT]:
        first, *own = inspect.signature(function).parameters.values()

        @wraps(function)
        def verb(*args: Any, **given: Any) -> ResultT:
            if args or first.name in given:
                _check_is(settings, args[0] if args else given[first.name], function.__name__)
                _check_own(
                    function.__name__, [p.name for p in own], args[1:], set(given) - {first.name}
                )
                return function(*args, **given)
            mine = {p.name: given.pop(p.name) for p in own if p.name in given}
            if any(p.name == LOADED for p in own) and hasattr(given.get("model"), "as_setting"):
                mine[LOADED] = given["model"]
            return function(settings(**given), **mine)

        shown = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name != LOADED]
        fields = [
            p.replace(annotation=settings.model_fields[p.name].annotation)
            for p in inspect.signature(settings).parameters.values()
        ]
        fields.sort(key=lambda p: p.default is not inspect.Parameter.empty)
        text = inspect.cleandoc(function.__doc__ or "")
        verb.__doc__ = (
            f"{text}\n\nSettings, by name or as {settings.__name__}:\n{_listed(settings)}"
        )
        result = inspect.signature(function).return_annotation
        cast(Any, verb).__signature__ = inspect.Signature(
            [*fields, *shown], return_annotation=result
        )
        return cast(Verb[P, ResultT], verb)

    return decorate


def _check_is(kind: type[Settings], given: Any, name: str) -> None:
    """Refuses an argument that is no `kind`: other settings, or a value without its name."""
    if not isinstance(given, kind):
        raise TypeError(
            f"{name} must be called with {kind.__name__} or with settings by name, such as "
            f"{_fields(kind)[0][0]}=…, got {type(given).__name__}"
        )


def _check_own(name: str, known: list[str], more: tuple[Any, ...], given: set[str]) -> None:
    """Refuses what does not go beside settings: arguments without names, and settings."""
    listed = ", ".join(f"{own}=…" for own in known) or "nothing"
    got = [type(value).__name__ for value in more] + sorted(given - set(known))
    if more or given - set(known):
        raise TypeError(
            f"{name} must be called with settings and {listed} by name, got {', '.join(got)}"
        )


def _fields(kind: type[Settings]) -> list[tuple[str, FieldInfo]]:
    """The fields in the order of declaration, but required ones first."""
    return sorted(kind.model_fields.items(), key=lambda item: not item[1].is_required())


def _listed(kind: type[Settings]) -> str:
    """The fields with defaults and docstrings, one per line."""
    lines = []
    for name, field in _fields(kind):
        default = (
            ""
            if field.is_required()
            else f" (default: {field.get_default(call_default_factory=True)!r})"
        )
        lines.append(f"    {name}{default}: {' '.join((field.description or '').split())}")
    return "\n".join(lines)
