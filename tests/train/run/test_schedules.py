"""The recipe's numbers at the steps where one can say them by hand."""

from collections.abc import Callable

import pytest

from scopeworks.train.run.schedules import learning_rate, sparsity_share
from scopeworks.train.settings import TrainSettings

Make = Callable[..., TrainSettings]


def report(settings: Make, **overrides: object) -> TrainSettings:
    """The report's own warm-ups."""
    recipe = {"lr": 7e-5, "lr_warmup_steps": 1000, "sparsity_warmup_steps": 10_000}
    return settings(steps=100_000, **(recipe | overrides))


def test_defaults_are_the_reports_recipe():
    recipe = {
        "lr": 7e-5,
        "lr_warmup_steps": 1000,
        "lr_warmup_start": 0.1,
        "lr_decay_share": 0.0,
        "beta2": 0.999,
        "adam_eps": 1e-8,
        "batch": 4096,
        "sparsity_warmup_steps": 10_000,
        "bandwidth": 1e-3,
        "theta_start": 1e-3,
        "theta_form": "raw",
    }
    assert {name: TrainSettings.model_fields[name].default for name in recipe} == recipe


@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.1), (500, 0.55), (1000, 1.0), (50_000, 1.0), (99_999, 1.0)]
)
def test_learning_rate_rises_by_half_a_cosine_and_stays(settings: Make, step: int, share: float):
    assert learning_rate(report(settings), step) == pytest.approx(7e-5 * share, rel=1e-12)


@pytest.mark.parametrize(("step", "share"), [(79_999, 1.0), (90_000, 0.5), (99_999, 1 / 20_000)])
def test_learning_rate_falls_linearly_over_the_last_share(settings: Make, step: int, share: float):
    decaying = report(settings, lr_decay_share=0.2)
    assert learning_rate(decaying, step) == pytest.approx(7e-5 * share, rel=1e-12)


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (2500, 0.25), (10_000, 1.0), (20_000, 1.0)])
def test_sparsity_rises_linearly(settings: Make, step: int, share: float):
    assert sparsity_share(report(settings), step) == pytest.approx(share, rel=1e-12)


def test_no_warm_up_starts_at_full_values(settings: Make):
    flat = report(settings, lr_warmup_steps=0, sparsity_warmup_steps=0)
    assert learning_rate(flat, 0) == 7e-5
    assert sparsity_share(flat, 0) == 1.0
