"""Gemma 3 against a forward pass in float64 that shares no code with it, from its files."""

import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scopeworks.evaluate.measure.lm_loss import token_losses
from scopeworks.harvest.model.config import read_config
from scopeworks.harvest.model.families import GEMMA3
from scopeworks.harvest.model.hooks import capture, forward_until, replace
from scopeworks.harvest.model.loading import load_model, load_tokenizer
from scopeworks.harvest.model.sites import KINDS, Site, expand_sites, site_width
from scopeworks.harvest.model.tensors import Tensors
from scopeworks.tests.reference import gemma_forward
from scopeworks.tests.reference.gemma3_models import (
    SHAPES,
    build_gemma3,
    build_seeing,
    text_entries,
)
from scopeworks.tests.reference.gemma_models import build_tokenizer


def every_site(model: Any) -> list[Site]:
    return expand_sites(["*.*", "mlp_in.*"], model.config.num_hidden_layers)


@pytest.fixture(scope="module")
def text_dir(tmp_path_factory) -> Path:
    """A saved `Gemma3ForCausalLM`, with its tokenizer."""
    path = tmp_path_factory.mktemp("models") / "text"
    build_gemma3("odd_heads").save_pretrained(path)
    build_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def seeing_dir(tmp_path_factory) -> Path:
    """A saved `Gemma3ForConditionalGeneration` with the same language model."""
    path = tmp_path_factory.mktemp("models") / "seeing"
    build_seeing("odd_heads").save_pretrained(path)
    build_tokenizer().save_pretrained(path)
    return path


def edited(folder: Path, to: Path, **changes: Any) -> Path:
    """A copy of a model's folder with other entries in config.json."""
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | changes))
    return to


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", SHAPES)
def test_captured_sites_equal_the_float64_forward_at_every_layer(name, implementation, input_ids):
    model, attention = build_gemma3(name, implementation=implementation), SHAPES[name][1]
    assert attention.window < input_ids.shape[1]
    expected = attention.sites(model, input_ids)
    captured = forward_until(model, input_ids, every_site(model))
    assert captured.keys() == expected.keys()
    for site, x in captured.items():
        # float32 rounding through a few layers, relative to the size of the site's values
        torch.testing.assert_close(x.double(), expected[site], rtol=1e-5, atol=1e-5, msg=site)
    for site in every_site(model):
        assert captured[str(site)].shape == (2, 17, site_width(site, model.config))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_bfloat16_sites_are_near_the_float64_forward(implementation, input_ids):
    model = build_gemma3("grouped", implementation=implementation).to(torch.bfloat16)
    expected = SHAPES["grouped"][1].sites(model, input_ids)
    for site, x in forward_until(model, input_ids, every_site(model)).items():
        # 8 bits of mantissa, four layers
        error = (x.double() - expected[site]).norm() / expected[site].norm()
        assert error < 0.03, site


def test_captured_sites_are_bit_equal_to_the_models_own_tensors(input_ids):
    """Each layer is redone by the model's own modules from `output_hidden_states`."""
    model = build_gemma3("odd_heads").to(torch.bfloat16)
    captured = forward_until(model, input_ids, every_site(model))
    states = model.model(input_ids=input_ids, output_hidden_states=True).hidden_states
    for i, layer in enumerate(model.model.layers):
        attended = layer.post_attention_layernorm(layer.self_attn.o_proj(captured[f"attn_out.{i}"]))
        middle = states[i] + attended
        assert torch.equal(captured[f"mlp_in.{i}"], layer.pre_feedforward_layernorm(middle))
        mlp = layer.mlp(captured[f"mlp_in.{i}"])
        assert torch.equal(captured[f"mlp_out.{i}"], layer.post_feedforward_layernorm(mlp))
        assert torch.equal(captured[f"resid_post.{i}"], middle + captured[f"mlp_out.{i}"])


@pytest.mark.parametrize("kind", KINDS)
def test_replace_splices_into_the_float64_forward(kind, input_ids):
    """Twice the activation at layer 1, spliced by hook and by hand in the reference."""
    model, attention = build_gemma3("odd_heads"), SHAPES["odd_heads"][1]
    with (
        replace(model, Site(kind, 1), lambda x: 2 * x),
        capture(model, [Site("resid_post", 2)]) as captured,
    ):
        model(input_ids=input_ids)
    x = attention.sites(model, input_ids)["resid_post.0"]
    weights, config = gemma_forward.double_weights(model), model.config
    gemma_forward.double_at(kind, weights)
    x = gemma_forward.layer_sites(x, weights, 1, config, attention.heads_out)["resid_post.1"]
    x = x * (2 if kind == "resid_post" else 1)
    expected = gemma_forward.layer_sites(x, weights, 2, config, attention.heads_out)
    x = captured["resid_post.2"].double()
    torch.testing.assert_close(x, expected["resid_post.2"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attention", ["auto", "eager"])
@pytest.mark.parametrize("folder", ["text_dir", "seeing_dir"])
def test_both_classes_are_loaded_as_the_same_language_model(folder, attention, input_ids, request):
    lm = load_model(request.getfixturevalue(folder), "float32", "cpu", attention)
    own, config = build_gemma3("odd_heads"), SHAPES["odd_heads"][1]
    assert lm.attention == ("sdpa" if attention == "auto" else "eager")
    assert lm.model.state_dict().keys() == own.state_dict().keys()  # no vision tower is there
    assert all(torch.equal(p, own.state_dict()[n]) for n, p in lm.model.named_parameters())
    expected = config.logits(own, input_ids)
    logits = lm.model(input_ids=input_ids).logits.double()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    losses = -expected.log_softmax(-1)[:, :-1].gather(2, input_ids[:, 1:, None])[..., 0]
    found = token_losses(lm, input_ids)[:, :-1].double()
    torch.testing.assert_close(found, losses, rtol=1e-5, atol=1e-5)


def test_language_model_has_one_fingerprint_wherever_it_is_from(text_dir, seeing_dir, tmp_path):
    """In transformers' three spellings of its weights' names, loaded or read from the files."""
    newer = edited(seeing_dir, tmp_path / "newer")
    weights = load_file(newer / "model.safetensors")
    weights = {
        "model." + name.replace("language_model.model.", "language_model."): tensor
        for name, tensor in weights.items()
    }
    save_file(weights, newer / "model.safetensors", metadata={"format": "pt"})
    found = set()
    for folder in (text_dir, seeing_dir, newer):
        found.add(load_model(folder, "bfloat16", "cpu").fingerprint)
        _, config = load_tokenizer(folder)
        found.add(Tensors(str(folder), config).fingerprint())
    assert len(found) == 1


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_text_written_with_a_cache_is_the_reference_s_most_probable(text_dir, input_ids, attention):
    """Token by token, far beyond the window."""
    lm, own = load_model(text_dir, "float32", "cpu", attention), build_gemma3("odd_heads")
    ids = input_ids[:1, :4]
    cache, step = None, ids
    for _ in range(12):
        found = lm.model(input_ids=step, past_key_values=cache, use_cache=True)
        expected = SHAPES["odd_heads"][1].logits(own, ids)[:, -1]
        torch.testing.assert_close(found.logits[:, -1].double(), expected, rtol=1e-4, atol=1e-4)
        cache, step = found.past_key_values, expected.argmax(-1, keepdim=True)
        ids = torch.cat([ids, step], dim=1)
    assert lm.generate(input_ids[:1, :4], 12) == lm.tokenizer.decode(ids[0, 4:])


@pytest.mark.parametrize("factor", [2.0, 8.0])
def test_fingerprint_sees_the_rotary_embeddings(text_dir, tmp_path, factor):
    ropes = {
        "full_attention": {"rope_type": "linear", "factor": factor, "rope_theta": 5_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    }
    other = edited(text_dir, tmp_path / "other", rope_parameters=ropes)
    pair = [load_model(folder, "float32", "cpu").fingerprint for folder in (text_dir, other)]
    assert (pair[0] == pair[1]) == (factor == SHAPES["odd_heads"][1].factor)


def test_read_config_is_what_transformers_reads(text_dir, seeing_dir, tmp_path):
    from transformers import AutoConfig

    older = edited(text_dir, tmp_path / "older")
    (older / "config.json").write_text(json.dumps(text_entries("odd_heads")))
    for folder in (text_dir, seeing_dir, older):
        _, config = load_tokenizer(folder)
        theirs = AutoConfig.from_pretrained(folder).get_text_config()
        for entry in (*GEMMA3.decides, "vocab_size", "hidden_size", "num_hidden_layers"):
            assert getattr(config, entry) == getattr(theirs, entry), entry
        layers = ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"]
        assert config.layer_types == layers


def test_released_config_that_leaves_entries_out_has_transformers_own(tmp_path, text_dir):
    """As in Gemma 3 4B, whose config.json names neither heads nor vocabulary."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    folder = shutil.copytree(text_dir, tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    config = read_config(folder, "model")
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (8, 4, 256)
    assert config.layer_types.count("full_attention") == 5 and config.vocab_size == 262_208
    ropes = {kind: rope["rope_theta"] for kind, rope in config.rope_parameters.items()}
    assert ropes == {"full_attention": 1e6, "sliding_attention": 1e4}
    assert config.rope_parameters["full_attention"]["factor"] == 8


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping: .* got 50.0"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping: .* got 30.0"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention: .* got True"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters.rope_theta: .*got 10000.0"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, "must be a multiple of .*, 3, got"),
        ({"num_key_value_heads": 2}, "must be a multiple of num_key_value_heads, 2"),
        ({"sliding_window_pattern": 0}, "sliding_window_pattern: .* got 0"),
        ({"num_hidden_layers": 4}, "layer_types: must name 4 layers"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar: .* got 0"),
        ({"sliding_window": None}, "sliding_window: .* got None"),
    ],
)
def test_config_that_no_gemma_3_has_is_refused_in_one_line(text_dir, tmp_path, entry, message):
    folder = edited(text_dir, tmp_path / "model", **entry)
    with pytest.raises(ValueError, match=message) as raised:
        load_tokenizer(folder)
    assert "\n" not in str(raised.value) and "config.json" in str(raised.value)


def test_config_inside_a_larger_one_is_named_where_it_is(seeing_dir, tmp_path):
    folder = edited(seeing_dir, tmp_path / "model", text_config={"model_type": "gemma3_text"})
    with pytest.raises(ValueError, match=r"config.json, text_config.*hidden_size is missing"):
        load_tokenizer(folder)


def test_language_model_of_another_family_inside_is_refused(seeing_dir, tmp_path):
    inside = json.loads((seeing_dir / "config.json").read_text())["text_config"]
    folder = edited(seeing_dir, tmp_path / "model", text_config=inside | {"model_type": "gemma2"})
    with pytest.raises(ValueError, match="text_config: model_type must be gemma3_text or gemma3, "):
        load_tokenizer(folder)


def test_weights_of_neither_tower_are_refused(seeing_dir, tmp_path):
    folder = edited(seeing_dir, tmp_path / "model")
    weights = load_file(folder / "model.safetensors") | {"audio_tower.w": torch.ones(3)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"got also audio_tower\.w"):
        load_model(folder)


def test_attention_that_it_was_not_trained_with_is_refused(text_dir):
    with pytest.raises(ValueError, match=r"must be one of auto, sdpa, eager, .*, got 'paged'"):
        load_model(text_dir, attention="paged")


@pytest.mark.parametrize(
    "model_type", ["llama", "gpt2", "gemma", "gemma3n", "gemma3n_text", "paligemma", "siglip"]
)
def test_other_families_are_refused_with_those_that_exist(tmp_path, model_type):
    entries = {"model_type": model_type, "n_layer": 2, "text_config": {"model_type": "gemma3_text"}}
    (tmp_path / "config.json").write_text(json.dumps(entries))
    message = f"must be a Gemma 2 or Gemma 3, got .* with model_type '{model_type}'; other"
    with pytest.raises(ValueError, match=message) as raised:
        load_model(tmp_path)
    assert "\n" not in str(raised.value)


def test_compiled_modules_compute_the_same(text_dir, input_ids, monkeypatch):
    """Without a C++ compiler: what torch.compile traces is run as it is."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    plain, compiled = (
        load_model(text_dir, "float32", "cpu", compile=compile) for compile in (False, True)
    )
    for site, x in forward_until(plain, input_ids, [Site("resid_post", 2)]).items():
        found = forward_until(compiled, input_ids, [Site("resid_post", 2)])[site]
        torch.testing.assert_close(found, x, rtol=1e-5, atol=1e-5)
    torch.compiler.reset()


CONFIG: Any = SimpleNamespace(
    hidden_size=1152,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=256,
    intermediate_size=6912,
)
"""As in Gemma 3 1B."""


def test_flops_per_token_are_two_a_weight_and_those_of_all_pairs():
    # q and o have 1152 · 1024 weights each, k and v 1152 · 256, the MLP 3 · 1152 · 6912
    layer = 2 * 1_179_648 + 2 * 294_912 + 23_887_872
    pairs = 2 * 2 * 512 * 4 * 256
    assert GEMMA3.flops_per_token(CONFIG, 512, 25, "resid_post") == 26 * (2 * layer + pairs)


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        # as the Gemma 3 report's Table 1 has them, in millions: embedding, and all else; the
        # smallest, which came later, by its announcement
        ("google/gemma-3-1b-pt", (302, 698)),
        ("google/gemma-3-4b-it", (675, 3_209)),
        ("google/gemma-3-12b-pt", (1_012, 10_759)),
        ("google/gemma-3-27b-it", (1_416, 25_600)),
        ("google/gemma-3-270m-it", (168, 100)),
    ],
)
def test_released_shapes_have_as_many_weights_as_the_report_says(model, weights):
    kind, causal = GEMMA3.classes()
    shape = GEMMA3.shape_of(model)
    assert shape is not None
    with torch.device("meta"):
        lm = causal(kind(**shape))
    embedding = lm.get_input_embeddings().weight.numel()
    others = sum(p.numel() for p in lm.parameters()) - embedding
    assert (embedding / 1e6, others / 1e6) == pytest.approx(weights, rel=0.01)
