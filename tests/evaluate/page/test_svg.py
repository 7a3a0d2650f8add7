"""The one look: plain numbers on every axis, labels that fit, the same bytes each time."""

import re
from typing import TYPE_CHECKING

import pytest

from scopeworks.evaluate.page.svg import COLOURS, draw, look, picture, power_of_ten

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def texts(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


def test_a_logarithmic_axis_has_plain_numbers_whoever_made_it():
    def plot(axes: "Axes") -> None:
        axes.plot([1, 1000], [0.01, 100])
        axes.set(xscale="log", yscale="log")

    shown = texts(draw(plot, "a plot"))
    assert {"1", "10", "100", "1,000", "0.01", "0.1"} <= set(shown)
    assert not [text for text in shown if "$" in text or "×" in text]


def test_the_y_axis_is_named_above_the_plot_and_long_names_are_broken():
    def plot(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1])
        axes.set_ylabel("loss")
        axes.set_xlabel("a name of many words " * 4)

    svg = draw(plot, "a plot")
    assert "loss" in texts(svg) and "rotate(-90" not in svg
    assert max(map(len, texts(svg))) <= 46


def test_a_picture_is_the_same_bytes_each_time_and_bears_no_name():
    def plot(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], **look(0))

    for kind in ("svg", "png"):
        assert picture(plot, kind) == picture(plot, kind)
        assert b"atplotlib" not in picture(plot, kind).split(b"</defs>")[-1]


@pytest.mark.parametrize("every", [None, 40])
def test_no_two_series_differ_by_colour_alone(every: int | None):
    looks = [look(i, every) for i in range(len(COLOURS))]
    shapes = {(str(one["linestyle"]), one["marker"]) for one in looks}
    assert len(shapes) == len({one["color"] for one in looks}) == len(COLOURS)


def test_powers_of_ten_are_read_as_such():
    assert [power_of_ten(n) for n in (-12, 0, 3)] == ["10⁻¹²", "10⁰", "10³"]
