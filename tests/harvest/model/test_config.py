"""Configurations that no Gemma 2 has."""

import json

import pytest
import torch

from scopeworks.harvest.model.loading import load_model, load_tokenizer


def edit(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"num_hidden_layers": 10**9},
            "num_hidden_layers: .* less than or equal to 512, got 10000",
        ),
        ({"num_hidden_layers": -1}, "num_hidden_layers: .* greater than or equal to 1, got -1"),
        ({"num_hidden_layers": "4"}, "num_hidden_layers: .* valid integer, got '4'"),
        ({"num_hidden_layers": True}, "num_hidden_layers: .* valid integer, got True"),
        ({"num_hidden_layers": None}, "num_hidden_layers: .* valid integer, got None"),
        ({"num_hidden_layers": 3}, "layer_types: must name 3 layers"),
        ({"hidden_size": 10**30}, "hidden_size: .* got 1000"),
        ({"vocab_size": 0}, "vocab_size: .* greater than or equal to 1, got 0"),
        ({"num_key_value_heads": 3}, "num_attention_heads: must be a multiple of .*, 3, got 4"),
        ({"layer_types": ["causal"] * 4}, "layer_types.0: input should be 'sliding_attention'"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps: .* greater than 0"),
        ({"rope_parameters": {"rope_type": "own"}}, "rope_parameters.rope_type: .* got 'own'"),
        ({"rope_parameters": {"rope_theta": 0}}, "rope_parameters.rope_theta: .* got 0"),
        ({"hidden_activation": "own"}, "hidden_activation: .* got 'own'"),
        ({"eos_token_id": "1"}, "eos_token_id"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "pass the model's bfloat16 or"),
    ],
)
def test_load_tokenizer_refuses_a_config_that_no_gemma_2_has(damaged, entry, message):
    edit(damaged, **entry)
    with pytest.raises(ValueError, match=message) as raised:
        load_tokenizer(damaged)
    assert "\n" not in str(raised.value)
    assert "config.json" in str(raised.value)


def test_load_tokenizer_refuses_a_config_without_a_shape(damaged):
    path = damaged / "config.json"
    path.write_text('{"model_type": "gemma2"}')
    with pytest.raises(ValueError, match="vocab_size is missing; hidden_size is missing"):
        load_tokenizer(damaged)


@pytest.mark.parametrize(
    "entry",
    [
        {"num_labels": 10**9},  # transformers makes a name for each
        {"_attn_implementation": "own/kernel"},  # and would fetch a kernel from the hub
        {"return_dict": False, "per_layer_config": 3, "base_model_tp_plan": 3},
        {"transformers_weights": "../other.safetensors"},
    ],
)
def test_load_model_hands_on_nothing_that_gemma_2_does_not_need(
    damaged, model_dir, input_ids, entry
):
    edit(damaged, **entry)
    logits = [
        load_model(folder, "float32", "cpu").model(input_ids=input_ids).logits
        for folder in (damaged, model_dir)
    ]
    assert torch.equal(*logits)


def test_read_config_is_what_transformers_reads(model_dir):
    from transformers import AutoConfig

    _, config = load_tokenizer(model_dir)
    theirs = AutoConfig.from_pretrained(model_dir).to_dict()
    ours = config.to_dict()
    unused = {"_name_or_path", "architectures", "dtype", "transformers_version"}
    assert {k: v for k, v in ours.items() if k not in unused} == {
        k: v for k, v in theirs.items() if k not in unused
    }
