"""The largest entries of every row, ties by the lower index."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def largest(
    values: Float[Tensor, "rows n"], k: int
) -> tuple[Float[Tensor, "rows k"], Int[Tensor, "rows k"]]:
    """Values and indices of the min(k, n) largest of each row, by falling value.

    torch.topk takes any of several equal entries; here the lower index goes first.
    """
    k = min(k, values.shape[1])
    found, where = values.topk(k, dim=1)
    if k == 0:
        return found, where
    least = found[:, -1:]
    crowded = ((values >= least).sum(1) > k).nonzero().flatten().tolist()
    for row in crowded:
        equal = (values[row] == least[row]).nonzero().flatten()
        above = where[row][found[row] > least[row]]
        where[row] = torch.cat([above, equal[: k - len(above)]])
    where = where.sort(dim=1).values
    found, order = values.gather(1, where).sort(dim=1, descending=True, stable=True)
    return found, where.gather(1, order)
