"""The controller of λ: against a simulated plant, and at the end of a real run."""

import math
from collections.abc import Callable

import pytest

from scopeworks.train.run.steering import Steering, say_high_prices
from scopeworks.train.run.trainer import run
from scopeworks.train.sae.sae import SAE
from scopeworks.train.saved.metrics import read_metrics
from scopeworks.train.settings import TrainSettings

Make = Callable[..., TrainSettings]


def simulated_l0(settings: TrainSettings, power: float, drift: float) -> float:
    """L0 at the end of a run in which L0 follows λ^-power with a lag of 0.13/lr updates.

    The lag is what short runs at lr 1e-3 showed (130 updates). Around λ = 0 the power levels off
    (below 2e-5, another scale than the controller's). `drift` is by how much log L0 falls by itself
    in the whole run, as it does while an SAE learns.
    """

    def reach(price: float) -> float:
        return power * math.asinh(price / 4e-5)

    steering, lr = Steering.start(settings), settings.lr
    start = math.log(150.0) + reach(settings.sparsity)
    log_l0 = math.log(150.0)
    for step in range(settings.steps):
        wanted = start - reach(steering.sparsity) - drift * step / settings.steps
        log_l0 += lr / 0.13 * (wanted - log_l0)
        steering.update(math.exp(log_l0), lr)
    return math.exp(log_l0)


@pytest.mark.parametrize("lr", [1e-3, 7e-5])
@pytest.mark.parametrize("power", [0.35, 0.6, 0.9])
@pytest.mark.parametrize("target", [8.0, 60.0, 200.0, 600.0])
def test_simulated_plant_ends_at_the_target(settings: Make, target: float, power: float, lr: float):
    one = settings(width=1000, target_l0=target, lr=lr, steps=round(1.5 / lr), sparsity=6e-4)
    assert simulated_l0(one, power, drift=0.5) == pytest.approx(target, rel=0.03)


@pytest.mark.parametrize("penalty", ["linear", "quadratic"])
@pytest.mark.parametrize("target", [4.0, 9.0])
def test_real_run_ends_within_five_percent(settings: Make, target: float, penalty: str):
    (out,) = run(
        [settings(steps=900, target_l0=target, penalty=penalty, lr_decay_share=0.2, batch=128)]
    )
    assert SAE.load(out).config.l0 == pytest.approx(target, rel=0.05)


def test_steering_waits_for_the_warm_up(settings: Make):
    one = settings(steps=21, sparsity_warmup_steps=20, target_l0=1.0, log_every=1)
    (out,) = run([one])
    found = [line["sparsity"] for line in read_metrics(out)][:20]
    assert found == pytest.approx([one.sparsity * step / 20 for step in range(20)], rel=1e-9)


def test_error_is_held_within_one(settings: Make):
    steering = Steering.start(settings(target_l0=48.0, sparsity=1e-3))
    before = steering.integral
    steering.moved = 100.0  # the wanted L0 has come down to the target
    steering.update(1e9, lr=1e-3)
    assert steering.error == pytest.approx(0.1)
    assert steering.integral == pytest.approx(before + 40 * 1e-3 * 0.1)
    steering.update(0.0, lr=1e-3)
    assert steering.error == pytest.approx(0.1 - 0.1 * 1.1)


@pytest.mark.parametrize("penalty", ["linear", "quadratic"])
def test_steering_starts_at_the_settings_sparsity(settings: Make, penalty: str):
    steering = Steering.start(settings(target_l0=5.0, sparsity=3e-4, penalty=penalty))
    assert steering.sparsity == pytest.approx(3e-4, rel=1e-9)


@pytest.mark.parametrize(("penalty", "lowest"), [("linear", -1.0), ("quadratic", 0.0)])
def test_only_a_linear_price_goes_below_zero(settings: Make, penalty: str, lowest: float):
    steering = Steering.start(settings(target_l0=40.0, penalty=penalty))
    for _ in range(1000):
        steering.update(1.0, lr=1e-2)
    assert (steering.sparsity < 0) == (lowest < 0)
    assert steering.sparsity != 0


def test_target_above_what_a_price_of_zero_gives_is_reached(settings: Make):
    hurdle = {"steps": 900, "batch": 128, "theta_start": 0.3, "lr_decay_share": 0.2}
    (free,) = run([settings("free", sparsity=0.0, sparsity_warmup_steps=0, **hurdle)])
    natural = SAE.load(free).config.l0
    assert natural is not None
    target = round(1.25 * natural, 1)
    (out,) = run([settings(target_l0=target, **hurdle)])
    config = SAE.load(out).config
    assert config.l0 == pytest.approx(target, rel=0.05)
    assert config.sparsity is not None
    assert config.sparsity < 0
    assert read_metrics(out)[-1]["sparsity"] == pytest.approx(config.sparsity, rel=0.2)


def test_wanted_l0_comes_down_to_the_target(settings: Make):
    steering = Steering.start(settings(target_l0=40.0))
    steering.update(1.3 * 40.0, lr=0.4)
    assert steering.error == pytest.approx(0.0)
    assert steering.moved == pytest.approx(0.4)
    steering.update(40.0 * (1 + 0.3 / math.e), lr=100.0)
    assert steering.error == pytest.approx(0.0)
    steering.update(40.0, lr=0.0)
    assert steering.error == pytest.approx(0.0)


@pytest.mark.parametrize("penalty", ["linear", "quadratic"])
def test_price_stays_finite_at_any_rate_and_turns_when_the_error_does(settings: Make, penalty: str):
    steering = Steering.start(settings(target_l0=10.0, penalty=penalty, steering_gain=1e30))
    found = []
    for l0 in (1e6, 0.0, 1e6):
        for _ in range(100):
            steering.update(l0, lr=1e30)
        found.append(steering.sparsity)
    high, low, again = found
    assert 1e3 < high < 1e4
    assert low < 1e-8
    assert again == pytest.approx(high, rel=1e-3)


@pytest.mark.parametrize("lr", [0.1, 10.0])
def test_steered_run_at_a_wild_rate_ends_with_a_word_or_an_sae(settings: Make, lr: float):
    try:
        (out,) = run([settings(target_l0=10.0, lr=lr, steps=200)])
    except ValueError as error:
        assert "must be finite" in str(error)
    else:
        assert SAE.load(out).config.l0 is not None


def test_a_price_above_one_is_said_in_a_line(settings: Make, capsys: pytest.CaptureFixture[str]):
    quiet = [settings(sparsity=1.0), settings(sparsity=5.0, target_l0=3.0)]
    say_high_prices([*quiet, settings(sparsity=5.0)])
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "sparsity 5 is above 1" in said


def test_training_says_a_price_above_one(settings: Make, capsys: pytest.CaptureFixture[str]):
    run([settings(sparsity=5.0, steps=2)])
    assert "sparsity 5 is above 1" in capsys.readouterr().err
