"""Functions that take settings, or what settings are made from."""

import inspect

import pytest

from scopeworks.settings import Settings
from scopeworks.verbs import takes


class Baking(Settings):
    """How a cake is baked."""

    warm: bool = False
    """Whether it is served warm."""
    flour: str
    """What it is made of."""
    model: str = "oven"
    """Where."""


class Oven:
    """A thing with a name."""

    def as_setting(self) -> str:
        return "ours"


@takes(Baking)
def bake(settings: Baking, pieces: int = 1, lm: Oven | None = None) -> tuple[Baking, int, object]:
    """Bakes a cake."""
    return settings, pieces, lm


def test_settings_and_their_fields_are_one_call():
    wanted = Baking(flour="rye", warm=True)
    assert bake(wanted) == bake(flour="rye", warm=True) == (wanted, 1, None)
    assert bake(wanted, pieces=3) == bake(flour="rye", warm=True, pieces=3) == (wanted, 3, None)


def test_a_loaded_model_is_taken_where_its_name_is():
    oven = Oven()
    settings, _, lm = bake(flour="rye", model=oven)
    assert (settings.model, lm) == ("ours", oven)
    assert Baking(flour="rye", model=oven).model == "ours"  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "^flour must be given$"),
        ({"flour": 3}, "^flour must be text, got 3$"),
        ({"flour": "rye", "worm": 1}, "^unknown setting 'worm'; did you mean 'warm'\\?$"),
        (
            {"flour": "rye", "model": 3},
            "^model must be a hub id, a path or a LanguageModel, got 3$",
        ),
    ],
)
def test_fields_that_do_not_fit_are_one_line(given, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        bake(**given)
    assert "\n" not in str(caught.value) and caught.value.__suppress_context__


def test_a_value_without_its_name_is_refused():
    with pytest.raises(TypeError, match=r"bake must be called with Baking or .* flour=…, got str"):
        bake("rye")  # pyright: ignore[reportArgumentType]


def test_help_has_all_settings_with_what_they_mean():
    assert list(inspect.signature(bake).parameters) == ["flour", "warm", "model", "pieces"]
    shown = inspect.getdoc(bake) or ""
    assert "flour: What it is made of." in shown and "warm (default: False): Whether" in shown


def test_frozen_settings_say_so_in_one_line():
    settings = Baking(flour="rye")
    with pytest.raises(ValueError, match=r"^warm cannot be set: settings are frozen; build others"):
        settings.warm = True


@pytest.mark.parametrize(
    ("more", "named", "got"), [((Oven(),), {}, "Oven"), ((3,), {"flour": "rye"}, "int, flour")]
)
def test_what_goes_beside_settings_is_given_by_its_name(more, named, got: str):
    message = f"^bake must be called with settings and pieces=…, lm=… by name, got {got}$"
    with pytest.raises(TypeError, match=message):
        bake(Baking(flour="rye"), *more, **named)
