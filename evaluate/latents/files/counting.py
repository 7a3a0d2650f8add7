"""Counts of what no index may hold: filler, doubles, and output tokens that mean nothing."""

import re
from collections import Counter
from typing import Any

from .folder import LatentIndex

_MASKED = re.compile(r"<(unused\d+|0x[0-9A-Fa-f]{2})>|\[unused\d+\]")


def counted(index: LatentIndex) -> dict[str, int]:
    """Counts over all records.

    Returns:
        examples: all examples; filler: examples whose latent does not fire at the token they are
        shown for; doubles: examples with the same tokens as another one of their latent; masked:
        output tokens that are unused tokens or single bytes.
    """
    total: Counter[str] = Counter()
    for latent in range(index.manifest.sae.d_sae):
        total.update(_of_record(index.record(latent)))
    return dict(total)


def _of_record(record: dict[str, Any]) -> dict[str, int]:
    examples = [one for band in record["examples_quantiles"] for one in band["examples"]]
    texts = record["top_logits"] + record["bottom_logits"]
    return {
        "examples": len(examples),
        "filler": sum(_at_peak(one) <= 0 for one in examples),
        "doubles": len(examples) - len({tuple(one["tokens"]) for one in examples}),
        "masked": sum(_MASKED.fullmatch(text) is not None for text in texts),
    }


def _at_peak(example: dict[str, Any]) -> float:
    return example["tokens_acts_list"][example["train_token_ind"]]
