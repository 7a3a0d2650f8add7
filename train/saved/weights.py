"""Writes the trained SAE's file, `sae.safetensors`: the first rank writes what all ranks hold.

The ranks send the large tensors to the first one block by block, so that no rank ever holds more
than its share and a block. The bytes do not depend on the number of ranks.
"""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from ..kernels import Share
from ..ranks.world import World
from ..sae.files import write_safetensors
from ..sae.formats.trained import WEIGHTS_FILE
from ..sae.tensor_file import Blocks, written_order

BLOCK_NUMBERS = 1 << 21
"""Numbers of a tensor that are sent at once: 8 MiB of float32."""

_SHARED = ("b_dec", "W_skip")


def write_weights(out: Path, tensors: dict[str, Tensor], share: Share, world: World) -> None:
    """Writes the folded SAE; called by all ranks.

    Args:
        out: the trained SAE's folder, on the first rank.
        tensors: the folded tensors of this rank's latents, with b_dec and W_skip.
        share: this rank's latents.
        world: the ranks.

    Raises:
        OSError: naming the file that cannot be written.
    """
    whole = {
        name: Blocks(_shape(name, tensor, share), tensor.dtype, _blocks(name, tensor, share, world))
        for name, tensor in tensors.items()
    }
    if world.is_first:
        write_safetensors(out / WEIGHTS_FILE, whole)
        return
    for _, tensor in written_order(whole):
        for _ in tensor.blocks:
            pass


def _shape(name: str, tensor: Tensor, share: Share) -> tuple[int, ...]:
    """Shape of the whole SAE's tensor."""
    if name in _SHARED:
        return tuple(tensor.shape)
    return (len(tensor), share.d_sae) if name == "W_enc" else (share.d_sae, *tensor.shape[1:])


def _blocks(name: str, tensor: Tensor, share: Share, world: World) -> Iterator[Tensor]:
    """The tensor's rows, in order, on the first rank; other ranks take part and drop the result."""
    if name in _SHARED:
        yield tensor
    elif name == "W_enc":  # [d_in, d_sae]: each row has numbers of all ranks' latents
        n_rows = max(1, BLOCK_NUMBERS // share.d_sae)
        for rows in tensor.split(n_rows):
            joined = world.collected(rows.t(), share)
            yield rows if joined is None else joined.t()
    else:
        yield from world.in_order(tensor, share, BLOCK_NUMBERS)
