"""Krippendorff's alpha for ordinal data, pair by pair, as its definition reads.

D_o is the mean distance of the pairs of values of one unit, each unit's pairs weighted by
1 / (m − 1); D_e that of all pairs of values, whoever gave them to what. Alpha is 1 − D_o / D_e.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import permutations


def alpha(units: Sequence[Sequence[int]]) -> float:
    """Alpha of units, each with the values that raters gave it, in any order."""
    paired = [values for values in units if len(values) > 1]
    values = [value for unit in paired for value in unit]
    margins = Counter(values)

    def distance(a: int, b: int) -> float:
        low, high = min(a, b), max(a, b)
        between = sum(margins[g] for g in range(low, high + 1))
        return (between - (margins[a] + margins[b]) / 2) ** 2

    seen = sum(
        distance(a, b) / (len(unit) - 1) for unit in paired for a, b in permutations(unit, 2)
    ) / len(values)
    chance = sum(distance(a, b) for a, b in permutations(values, 2))
    return 1 - seen / (chance / (len(values) * (len(values) - 1)))
