"""Models spread over devices and compiled: the same activations, and clear refusals."""

from functools import partial

import pytest
import torch

from scopeworks.harvest.model.hooks import forward_until
from scopeworks.harvest.model.loading import load_model
from scopeworks.harvest.model.placement import spread_device
from scopeworks.harvest.model.sites import expand_sites
from scopeworks.harvest.rows.run import harvest_rows
from scopeworks.harvest.settings import HarvestSettings
from scopeworks.harvest.tokens.run import TokenizeSettings, tokenize_text
from scopeworks.store import ActivationStore
from scopeworks.tests.reference.gemma_models import build_model


@pytest.fixture
def interpreted(monkeypatch):
    """torch.compile without a C++ compiler: what it traces is run as it is."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    yield
    torch.compiler.reset()


def test_spread_model_gives_the_activations_of_one_on_one_device(model_dir, input_ids):
    pytest.importorskip("accelerate")
    plain = load_model(model_dir, dtype="float32", device="cpu")
    spread = load_model(model_dir, dtype="float32", device_map="auto")
    assert spread.fingerprint == plain.fingerprint
    sites = expand_sites(["*.*"], 4)
    expected = forward_until(plain, input_ids, sites)
    found = forward_until(spread, input_ids.to(spread.device), sites)
    if spread.device.type == "cpu":
        assert all(torch.equal(found[name], x) for name, x in expected.items())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"device_map": "wide"}, "device_map must be one of auto, balanced, .* got 'wide'"),
        ({"device_map": "auto", "device": "cpu"}, "device must be auto beside device_map auto"),
    ],
)
def test_device_maps_without_meaning_are_refused(model_dir, wrong, message):
    with pytest.raises(ValueError, match=message):
        load_model(model_dir, **wrong)


def test_device_map_without_accelerate_names_the_package(model_dir, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ValueError, match=r"needs the package accelerate; pip install accelerate"):
        load_model(model_dir, device_map="auto")


def test_spread_model_with_layers_on_no_device_is_refused():
    model = build_model("grouped")
    model.model.layers[3].mlp.to("meta")
    with pytest.raises(
        ValueError, match=r"must find room for all layers .* on no device; use more"
    ):
        spread_device(model, "auto")


def test_compiled_model_gives_the_plain_models_activations(model_dir, input_ids, interpreted):
    plain = load_model(model_dir, dtype="float32", device="cpu")
    compiled = load_model(model_dir, dtype="float32", device="cpu", compile=True)
    assert compiled.fingerprint == plain.fingerprint
    sites = expand_sites(["*.*"], 4)
    expected, found = (forward_until(model, input_ids, sites) for model in (plain, compiled))
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x, rtol=1e-5, atol=1e-5, msg=name)


def test_compiled_harvest_runs_one_shape_and_says_so(model_dir, tmp_path, interpreted):
    (tmp_path / "a.txt").write_text("".join(f"line {i}, of many\n" for i in range(40)))
    text = TokenizeSettings(
        model=str(model_dir),
        text=[str(tmp_path / "a.txt")],
        out=str(tmp_path / "tokens"),
        context=24,
        held_out=0.0,
    )
    tokenize_text(text)
    shapes, stores = set(), []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: (
            shapes.add(tuple(args[0].shape)) if "MLP" in str(type(module)) else None
        )
    )
    for compile in (True, False):
        store = tmp_path / f"store-{compile}"
        harvest_rows(
            HarvestSettings(
                model=str(model_dir),
                tokens=str(tmp_path / "tokens"),
                store=str(store),
                site=["mlp_out.1", "resid_post.1"],
                dtype="float32",
                codec="float32",
                device="cpu",
                batch_sequences=5,
                bucket_rows=100,
                compile=compile,
            )
        )
        stores.append(ActivationStore.open(store))
        if compile:
            assert shapes == {(5, 24, 32)}
    hook.remove()
    assert len(shapes) > 1
    compiled, plain = stores
    assert (compiled.provenance["compile"], plain.provenance["compile"]) == (True, False)
    rows = [store.read("resid_post.1", 0, store.rows) for store in stores]
    torch.testing.assert_close(*rows, rtol=1e-5, atol=1e-5)
