"""Slow float64 twins of what explanations are scored by, in plain Python."""

import math
from collections import defaultdict


def pearson(p: list[float], f: list[float]) -> float:
    """Pearson's r of two lists."""
    mean_p, mean_f = math.fsum(p) / len(p), math.fsum(f) / len(f)
    cov = math.fsum((a - mean_p) * (b - mean_f) for a, b in zip(p, f, strict=True))
    var_p = math.fsum((a - mean_p) ** 2 for a in p)
    var_f = math.fsum((b - mean_f) ** 2 for b in f)
    return cov / math.sqrt(var_p * var_f)


def auroc(yes: list[float], no: list[float]) -> float:
    """Share of pairs in which the first is larger; ties count half."""
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in yes for b in no)
    return wins / (len(yes) * len(no))


def balanced_accuracy(truth: list[bool], said: list[bool]) -> float:
    """Mean of both classes' shares told right."""
    shares = []
    for kind in (True, False):
        right = [s == t for s, t in zip(said, truth, strict=True) if t is kind]
        shares.append(sum(right) / len(right))
    return sum(shares) / 2


def unigram_means(tokens: list[int], f: list[float]) -> dict[int, tuple[int, int, float]]:
    """Token -> (rows, firings, Σ f)."""
    found: dict[int, tuple[int, int, float]] = defaultdict(lambda: (0, 0, 0.0))
    for token, value in zip(tokens, f, strict=True):
        rows, fired, total = found[token]
        found[token] = (rows + 1, fired + (value > 0), total + value)
    return dict(found)
