"""What a Gemma 2's forward pass takes, by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from scopeworks.harvest.model.families import GEMMA2

CONFIG: Any = SimpleNamespace(
    hidden_size=2304,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=256,
    intermediate_size=9216,
)
"""As in Gemma 2 2B."""


def sequence_bytes(context: int, dtype: str = "bfloat16", attention: str = "eager") -> int:
    return GEMMA2.sequence_bytes(CONFIG, context, dtype, attention)


def test_sequence_bytes_grow_with_the_square_of_the_context():
    assert 3.5 < sequence_bytes(8192) / sequence_bytes(4096) < 4
    assert sequence_bytes(1024, "float32") > sequence_bytes(1024)


def test_sequence_bytes_without_scores_in_memory_grow_with_the_context():
    short, long = (sequence_bytes(n, attention="flex_attention") for n in (1024, 2048))
    assert 2 <= long / short < 2.2
    assert sequence_bytes(8192) > 8 * sequence_bytes(8192, attention="flex_attention")


@pytest.mark.parametrize(
    ("layer", "kind", "weights", "scores"),
    [
        # q and o have 2304 · 2048 weights each, k and v 2304 · 1024, the MLP 3 · 2304 · 9216
        (0, "attn_out", 4_718_592 + 2 * 2_359_296, 1),
        (0, "transcoder_in", 2 * 4_718_592 + 2 * 2_359_296, 1),
        (0, "resid_post", 2 * 4_718_592 + 2 * 2_359_296 + 63_700_992, 1),
        (25, "mlp_out", 26 * 77_856_768, 26),
    ],
)
def test_flops_per_token_are_two_a_weight_and_those_of_all_pairs(
    layer: int, kind: str, weights: int, scores: int
):
    pairs = scores * 2 * 2 * 1024 * 8 * 256
    assert GEMMA2.flops_per_token(CONFIG, 1024, layer, kind) == 2 * weights + pairs
