"""Captured and replaced activations against an independent float64 forward pass and the model's own
modules.
"""

import inspect
from typing import Any

import pytest
import torch

from scopeworks.harvest.model.hooks import capture, forward_until, replace
from scopeworks.harvest.model.sites import KINDS, Site, expand_sites, site_width
from scopeworks.tests.reference import gemma_forward
from scopeworks.tests.reference.gemma_forward import all_sites
from scopeworks.tests.reference.gemma_models import build_model


def every_site(model) -> list[Site]:
    return expand_sites(["*.*", "mlp_in.*"], model.config.num_hidden_layers)


def test_captured_sites_equal_the_float64_forward_at_every_layer(random_model, input_ids):
    expected = all_sites(random_model, input_ids)
    captured = forward_until(random_model, input_ids, every_site(random_model))
    assert captured.keys() == expected.keys()
    for name, x in captured.items():
        # float32 rounding through a few layers, relative to the size of the site's values
        torch.testing.assert_close(x.double(), expected[name], rtol=1e-5, atol=1e-5, msg=name)


def test_captured_widths_are_the_sites_widths(random_model, input_ids):
    captured = forward_until(random_model, input_ids, every_site(random_model))
    for site in every_site(random_model):
        assert captured[str(site)].shape == (2, 17, site_width(site, random_model.config))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["odd_heads", "one_layer"])
def test_captured_sites_are_bit_equal_to_the_models_own_tensors(name, dtype, input_ids):
    """Each layer is redone by the model's own modules from `output_hidden_states`."""
    model = build_model(name).to(dtype)
    captured = forward_until(model, input_ids, every_site(model))
    states = model.model(input_ids=input_ids, output_hidden_states=True).hidden_states
    for i, layer in enumerate(model.model.layers):
        attended = layer.post_attention_layernorm(layer.self_attn.o_proj(captured[f"attn_out.{i}"]))
        middle = states[i] + attended
        normalised = middle.float() * torch.rsqrt(middle.float().pow(2).mean(-1, True) + 1e-6)
        assert torch.equal(captured[f"transcoder_in.{i}"], normalised.to(dtype))
        gained = layer.pre_feedforward_layernorm(middle)
        assert torch.equal(captured[f"mlp_in.{i}"], gained)
        mlp = layer.mlp(gained)
        assert torch.equal(captured[f"mlp_out.{i}"], layer.post_feedforward_layernorm(mlp))
        assert torch.equal(captured[f"resid_post.{i}"], middle + captured[f"mlp_out.{i}"])
        last = i == len(model.model.layers) - 1
        after = (
            model.model.norm(captured[f"resid_post.{i}"]) if last else captured[f"resid_post.{i}"]
        )
        assert torch.equal(after, states[i + 1])


def test_transcoder_in_has_the_norm_of_the_square_root_of_d_model(random_model, input_ids):
    x = forward_until(random_model, input_ids, [Site("transcoder_in", 0)])["transcoder_in.0"]
    norms = x.norm(dim=-1)
    torch.testing.assert_close(norms, torch.full_like(norms, x.shape[-1] ** 0.5), rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_until_stops_at_the_last_site(kind, input_ids):
    model = build_model("grouped")
    reached = []
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda _m, _a, name=name: reached.append(name))
    forward_until(model, input_ids, [Site(kind, 1)])
    assert "model.layers.1" in reached
    assert not [name for name in reached if name.startswith(("model.layers.2", "lm_head"))]
    assert "model.norm" not in reached
    assert ("model.layers.1.mlp.gate_proj" in reached) == (kind in ("mlp_out", "resid_post"))


def test_forward_until_leaves_no_hook_behind(input_ids):
    model = build_model("grouped")
    forward_until(model, input_ids, [Site("mlp_out", 1)])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model(input_ids=input_ids).logits.shape == (2, 17, 300)


@pytest.mark.parametrize("kind", KINDS)
def test_replace_by_the_same_value_changes_nothing(kind, random_model, input_ids):
    plain = random_model(input_ids=input_ids).logits
    seen = []
    with replace(random_model, Site(kind, 0), lambda x: (seen.append(x), x.clone())[1]):
        spliced = random_model(input_ids=input_ids).logits
    assert len(seen) == 1
    torch.testing.assert_close(spliced, plain, rtol=1e-6, atol=1e-6)
    assert torch.equal(random_model(input_ids=input_ids).logits, plain)


@pytest.mark.parametrize("kind", KINDS)
def test_replace_splices_into_the_float64_forward(kind, input_ids):
    """Twice the activation at layer 1, spliced by hook and by hand in the reference."""
    model = build_model("odd_heads")
    with (
        replace(model, Site(kind, 1), lambda x: 2 * x),
        capture(model, [Site("resid_post", 2)]) as captured,
    ):
        model(input_ids=input_ids)
    x = all_sites(model, input_ids)["resid_post.0"]
    weights = gemma_forward.double_weights(model)
    gemma_forward.double_at(kind, weights)
    after = gemma_forward.layer_sites(x, weights, 1, model.config)
    spliced = after["resid_post.1"] * (2 if kind == "resid_post" else 1)
    expected = gemma_forward.layer_sites(spliced, weights, 2, model.config)["resid_post.2"]
    torch.testing.assert_close(captured["resid_post.2"].double(), expected, rtol=1e-4, atol=1e-4)


def test_replace_reads_an_earlier_site_of_the_same_forward(input_ids):
    """What a transcoder needs: its input captured before its output is spliced in."""
    model = build_model("grouped")
    with (
        capture(model, [Site("transcoder_in", 2)]) as captured,
        replace(model, Site("mlp_out", 2), lambda _x: captured["transcoder_in.2"]),
        capture(model, [Site("resid_post", 1), Site("resid_post", 2)]) as after,
    ):
        model(input_ids=input_ids)
    # attention's part of the residual is what is left when both known parts are taken off
    plain = forward_until(model, input_ids, every_site(model))
    middle = plain["resid_post.2"] - plain["mlp_out.2"]
    expected = middle + captured["transcoder_in.2"]
    torch.testing.assert_close(after["resid_post.2"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("first", ["mlp_in", "transcoder_in"])
def test_gained_site_holds_what_is_spliced_in_before_the_gain(input_ids, first):
    """Both sites share a norm: the order in which they are hooked must not matter."""
    model = build_model("odd_heads")
    plain = forward_until(model, input_ids, [Site("mlp_in", 1)])["mlp_in.1"]
    spliced = replace(model, Site("transcoder_in", 1), lambda x: 2 * x)
    captured = capture(model, [Site("mlp_in", 1)])
    order = [captured, spliced] if first == "mlp_in" else [spliced, captured]
    with order[0] as left, order[1] as right:
        model(input_ids=input_ids)
    torch.testing.assert_close((left or right)["mlp_in.1"], 2 * plain, rtol=1e-6, atol=1e-6)


def test_replace_refuses_another_shape(input_ids):
    model = build_model("grouped")
    with (
        pytest.raises(ValueError, match=r"replacement at mlp_out.2 must have shape \[2, 17, 32\]"),
        replace(model, Site("mlp_out", 2), lambda x: x[..., :-1]),
    ):
        model(input_ids=input_ids)


def test_capture_refuses_a_layer_that_does_not_exist():
    model = build_model("grouped")
    with (
        pytest.raises(ValueError, match="the model has 4 layers"),
        capture(model, [Site("mlp_out", 4)]),
    ):
        pass


def test_sites_are_taken_by_name_one_or_several(input_ids):
    model, site = build_model("grouped"), Site("resid_post", 1)
    wanted = forward_until(model, input_ids, [site])["resid_post.1"]
    for sites in ("resid_post.1", site, ["resid_post.1"], {site: None}):
        assert torch.equal(forward_until(model, input_ids, sites)[site], wanted)
    with replace(model, "resid_post.2", torch.zeros_like), capture(model, "resid_post.2") as x:
        model(input_ids)
    assert not x["resid_post.2"].any()


def test_patterns_are_taken_as_a_harvest_takes_them(input_ids):
    model = build_model("grouped")
    with capture(model, "mlp_out.*") as x:
        model(input_ids)
    assert list(x) == [f"mlp_out.{layer}" for layer in range(4)]
    assert list(forward_until(model, input_ids, ["mlp_out.0-1"])) == ["mlp_out.0", "mlp_out.1"]
    with pytest.raises(ValueError, match=r"site mlp_out\.4 does not exist"):
        forward_until(model, input_ids, "mlp_out.3-9")


def test_captured_says_what_there_is(input_ids):
    model = build_model("grouped")
    with capture(model, "resid_post.1") as x:
        with pytest.raises(KeyError, match="nothing: run the model inside the block"):
            _ = x["resid_post.1"]
        model(input_ids)
    with pytest.raises(KeyError, match=r"resid_post\.2 were captured; there is resid_post\.1"):
        _ = x["resid_post.2"]


@pytest.mark.parametrize("model", ["google/gemma-2-2b", torch.nn.Linear(2, 2), None])
def test_what_is_no_loaded_model_is_refused(model, input_ids):
    with pytest.raises(
        ValueError, match=r"model must be a loaded .* scopeworks\.load_model\(name\)"
    ):
        forward_until(model, input_ids, "resid_post.1")


def test_no_site_is_refused(input_ids):
    with pytest.raises(ValueError, match="sites must hold at least one site, got none"):
        forward_until(build_model("grouped"), input_ids, [])


def test_replacement_that_is_no_tensor_is_refused(input_ids):
    model = build_model("grouped")
    with (
        pytest.raises(ValueError, match=r"must have shape \[2, 17, 32\], got NoneType"),
        replace(model, "mlp_out.2", lambda x: None),  # pyright: ignore[reportArgumentType]
    ):
        model(input_ids)


def test_a_vector_in_place_of_a_function_is_refused():
    plain: Any = inspect.unwrap(replace)  # without the types that tests check
    with pytest.raises(ValueError, match="fn must be a function of the activations, got Tensor;"):
        next(plain(build_model("grouped"), "mlp_out.2", torch.ones(32)))


def test_capture_is_a_block_and_not_called(input_ids):
    model = build_model("grouped")
    with pytest.raises(ValueError, match="capture must be used as a block, got a call"):
        capture(model, "mlp_out.2")(input_ids)  # pyright: ignore[reportCallIssue]
    block = capture(model, "mlp_out.2")
    for _ in range(2):
        with block as seen:
            model(input_ids)
        assert list(seen) == ["mlp_out.2"]
    assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
