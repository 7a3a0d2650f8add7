"""Axes of studies: what has no logarithm keeps its place."""

from matplotlib.figure import Figure

from scopeworks.evaluate.study.axes import decades_axis, draw_frontiers
from scopeworks.evaluate.study.statistics import Quantity


def test_a_splice_that_helps_makes_the_axis_linear():
    for value, scale in ((0.1, "log"), (-0.1, "linear")):
        axes = Figure().add_subplot()
        draw_frontiers(axes, {"a": [(10.0, Quantity(0.5)), (20.0, Quantity(value))]}, "delta_loss")
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", scale)


def test_many_decades_are_few_powers_of_ten():
    axes = Figure().add_subplot()
    axes.plot([1e-12, 1.0], [1e-3, 1.0])
    decades_axis(axes, "x")
    decades_axis(axes, "y")
    x, y = axes.get_xticklabels(), axes.get_yticklabels()
    assert [t.get_text() for t in x] == ["10⁻¹²", "10⁻¹⁰", "10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²", "10⁰"]
    assert [t.get_text() for t in y] == ["10⁻³", "10⁻²", "10⁻¹", "10⁰"]
