"""Settings that cannot work are refused before anything is opened."""

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch

from scopeworks.settings import resolve
from scopeworks.store.place.place import Place
from scopeworks.train.kernels import Encoder
from scopeworks.train.run.backends import check_backends
from scopeworks.train.settings import TrainSettings

GOOD = {"store": "s", "site": "resid_post.1", "width": 64, "out": "o"}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"sparsity": -1e-4}, "sparsity must be at least 0, got -0.0001"),
        ({"target_l0": 100.0}, "target_l0 must be at most the width 64, got 100"),
        ({"site": "resid_post"}, "site must be <kind>.<layer>, such as resid_post.12"),
        ({"width": 0}, "width must be greater than 0"),
        (
            {"width": [64, 128]},
            r"width must be one width; train_sweep takes a list, got \[64, 128\]",
        ),
        ({"width": np.arange(2)}, "width must be one width; train_sweep takes a list, got array"),
        ({"batch": True}, "batch must be a whole number, got True"),
        ({"l0": 20}, "unknown setting 'l0'; did you mean 'target_l0'"),
        ({"out": 3}, "out must be a path, got 3"),
        (
            {"out": "a text " * 99},
            "out must be a path of names of at most 255 bytes, 4,095 in all, got 'a text ",
        ),
        (
            {"store": "a text " * 99},
            r"path must be of names of at most 255 bytes, 4,095 in all, got 'a ",
        ),
        ({"lr": float("nan")}, "lr must be a finite number"),
        ({"skip": True}, "skip needs a target_site"),
        ({"target_site": "resid_post.1"}, "target_site must be another site"),
        ({"backend": "refrence"}, "backend must be one of auto, reference, cpu, triton, got"),
        ({"seed": 2**65}, "seed must be less than 9223372036854775808"),
        ({"store": []}, "store must be a URL or a list of URLs, got "),
        ({"store": ["a", 3]}, "store must be a URL or a list of URLs, got "),
        ({"store": ["a", "b"], "cache_dir": "c"}, "cache_dir has no effect on a local store"),
        ({"device": "tpu"}, "device must be auto, cpu, cuda or cuda:N"),
        ({"theta_form": "exp"}, "theta_form must be 'raw' or 'log'"),
        ({"bandwith": 0.1}, "unknown setting 'bandwith'; did you mean 'bandwidth'"),
        ({"frequency_limit": 0.2}, "frequency_limit has no effect"),
        ({"steering_gain": 0.1}, "steering_gain has no effect"),
        ({"target_l0": 8.0, "sparsity": 0.0}, "sparsity must be above 0 .* target_l0"),
        ({"target_l0": 8.0, "steps": 900}, r"sparsity_warmup_steps must be below steps \(900\)"),
        (
            {"steps": 300},
            r"lr_warmup_steps must be below steps \(300\), got 1000: .*; 20 would do; "
            r"sparsity_warmup_steps must be below steps \(300\), got 10000: .*; 100 would do",
        ),
        (
            {"steps": 12_000, "lr_warmup_steps": 9_000, "lr_decay_share": 0.5},
            r"lr_warmup_steps must be below steps \(12000\), and at most 6000 before the decay's",
        ),
        ({"sparsity": 1e300}, r"sparsity must be at most 1000"),
        ({"lr": 1e300}, "lr must be at most 1"),
        ({"adam_eps": 1e-300}, r"adam_eps must be at least 1e-30"),
        ({"theta_start": 1e300}, "theta_start must be at most 1000"),
        ({"bandwidth": 1e-300}, "bandwidth must be at least 1e-09"),
        ({"target_l0": 1e-300}, "target_l0 must be at least 0.001"),
        ({"target_l0": 8.0, "steering_gain": 1e300}, "steering_gain must be at most"),
        ({"frequency_penalty": 1e300}, "frequency_penalty must be at most"),
        ({"steps": 10**9}, "steps must be less than 1000000000"),
        ({"dead_after_rows": 2**63}, "dead_after_rows must be less than 922337"),
        ({"rank_timeout_s": 1e-9}, "rank_timeout_s must be at least 1, got 1e-09"),
        ({"rank_timeout_s": 1e10}, "rank_timeout_s must be at most 2592000, got"),
        ({"encoder": "screened", "backend": "reference"}, "encoder has no effect with backend ref"),
        ({"lr_warmup_start": 0.5, "lr_warmup_steps": 0}, "lr_warmup_start has no effect with lr_"),
        ({"lr_decay_share": 0.01, "steps": 40}, "lr_decay_share has no effect over 40 steps"),
        ({"frequency_penalty": 1.0, "sparsity": 0.0}, "frequency_penalty has no effect with spars"),
        ({"storage_options": {"a": 1}}, "storage_options has no effect on a local store with loc"),
        ({"cache_dir": "c"}, "cache_dir has no effect on a local store"),
        ({"store": "gs://b/s", "cache_bytes": 9}, "cache_bytes has no effect without cache_dir"),
        ({"store": "gs://b/s", "cache_dir": "gs://b/c"}, "cache_dir must be a local path"),
        ({"out": "gs://bucket/run"}, "out must be a local path; only stores and checkpoints may"),
        ({"device": "mps"}, "device must be auto, cpu, cuda or cuda:N, got 'mps'"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(wrong: dict[str, Any], text: str):
    with pytest.raises(ValueError, match=text):
        resolve(TrainSettings, None, **(GOOD | wrong))


def test_values_that_a_message_says_would_do_do():
    short = {"steps": 300, "lr_decay_share": 0.9}
    with pytest.raises(ValueError, match=r"at most 30 before the decay's 270.*; 15 would do"):
        resolve(TrainSettings, None, **(GOOD | short))
    fitting = {"lr_warmup_steps": 15, "sparsity_warmup_steps": 100}
    assert resolve(TrainSettings, None, **(GOOD | short | fitting)).decay_steps == 270


def test_warm_up_of_no_price_may_be_longer_than_the_run():
    """Nothing rises then: the defaults need not be turned off."""
    resolve(TrainSettings, None, **GOOD, sparsity=0, steps=2000)


def test_identity_is_what_the_numbers_depend_on(settings: Callable[..., TrainSettings]):
    one = settings()
    assert one.identity() == settings("elsewhere", log_every=1, checkpoint_every=3).identity()
    assert one.identity() != settings(bandwidth=0.01).identity()


def test_storage_options_hold_for_remote_places_only():
    one = resolve(TrainSettings, storage_options={"a": 1}, checkpoints="s3://b/c", **GOOD)
    assert one.checkpoint_place == Place("s3://b/c", {"a": 1})
    assert one.store_places == [Place("s")]
    assert "storage_options" not in one.model_dump()
    assert "storage_options" not in repr(one)


def test_a_store_may_be_several():
    several = {"store": ["a", "gs://b/c"], "storage_options": {"x": 1}}
    one = TrainSettings.model_validate(GOOD | several)
    assert one.store == ("a", "gs://b/c")
    assert one.store_places == [Place("a"), Place("gs://b/c", {"x": 1})]
    assert one.model_dump(mode="json")["store"] == ["a", "gs://b/c"]
    again = TrainSettings.model_validate_json(one.model_dump_json())
    assert (again.store, again.identity()) == (one.store, one.identity())
    assert TrainSettings.model_validate(GOOD | {"store": ["s"]}).store == "s"
    cached = TrainSettings.model_validate(GOOD | {"store": ("a", "gs://b/c"), "cache_dir": "x"})
    assert cached.cache_dir is not None


def test_encoders_are_the_kernels():
    """The settings repeat them so that `--help` need not import torch."""
    assert get_args(TrainSettings.model_fields["encoder"].annotation) == get_args(Encoder)


def test_tf32_needs_cuda():
    settings = TrainSettings.model_validate(GOOD | {"encoder": "tf32"})
    with pytest.raises(ValueError, match="encoder tf32 needs a CUDA device, got cpu"):
        check_backends([settings], torch.device("cpu"))
