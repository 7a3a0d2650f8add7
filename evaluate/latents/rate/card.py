"""What a rater sees of a latent: snippets, histogram and raised tokens, but never its SAE.

Owns which parts are shown. Activations are given as shares of the latent's largest activation,
because their size differs between sites. How often a latent fires is left out, because it differs
between widths.
"""

from typing import Any

TOP, PER_BAND = 12, 3
"""Most snippets that are shown: of the strongest ones, and of each weaker band."""


def card(record: dict[str, Any], page: dict[str, Any], raised: bool = True) -> dict[str, Any]:
    """What the page shows of a latent, made from its record and its page in an index.

    Args:
        raised: whether raised tokens are shown.
    """
    largest = page["max"] or 1.0
    groups = []
    for number, band in enumerate(record["examples_quantiles"]):
        shown = band["examples"][: TOP if number == 0 else PER_BAND]
        if shown:
            groups.append([_snippet(one, largest) for one in shown])
    histogram = page["histogram"]
    most = max(histogram["counts"], default=0) or 1
    return {
        "groups": groups,
        "raised": [text for text, _ in page["raised"]] if raised else [],
        "histogram": {
            "width": _short(histogram["width"] / largest),
            "counts": [_short(count / most) for count in histogram["counts"]],
        },
    }


def _snippet(example: dict[str, Any], largest: float) -> dict[str, Any]:
    """One snippet: its tokens, and how strongly the latent fires at each."""
    values = example["tokens_acts_list"]
    return {
        "tokens": example["tokens"],
        "shares": [_short(max(0.0, min(1.0, value / largest))) for value in values],
        "peak": example["train_token_ind"],
    }


def _short(value: float) -> float:
    """The value to three digits: a shade or a bar shows no more."""
    return float(f"{value:.3g}")
