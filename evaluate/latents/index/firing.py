"""The pass: from stored rows to the counts and examples of every latent's firings.

Owns the two sweeps over the rows, and the sum of their parts. The first sweep counts; its tally
gives the examples; the second sweep computes their activations token by token. `on_dask` decides
which process does a part.
"""

import hashlib
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from ....machine import give_back_memory
from ....train.kernels.cpu.threads import blocks_for, run_blocks
from ..contents import Examples, Firings
from .inputs import Inputs
from .parts import IndexPart, PartFiles, name_of, parts_of
from .reading import Encoder, LabelledRows, Labeller, blocks, position_edges
from .snippets import Listed, Needed, Windows, choose, fill_by_products, fill_from
from .tally.sample import FiringPartners, together
from .tally.tally import Tally

COUNT, FILL, CHOSEN = "count", "fill", "examples"
"""The two stages, and the name of the file with the examples that are chosen between them."""

PARTNERS, TOKENS = 8, 20
"""How many latents that fire together, and how many tokens, are listed for a latent."""

Seconds = dict[str, float]
Advance = Callable[[int], None]
Do = Callable[[str, Collection[IndexPart], str], None]
"""Does a stage of some parts; when it returns, their files exist."""


@contextmanager
def timed(times: Seconds, name: str) -> Iterator[None]:
    """Adds the seconds of the block to `times[name]`. Freed memory goes back to the system
    first."""
    give_back_memory()
    started = time.monotonic()
    yield
    times[name] = times.get(name, 0) + time.monotonic() - started


class Pass:
    """The work on single parts; the command and Dask workers use it alike."""

    def __init__(self, inputs: Inputs):
        self.inputs = inputs
        self.files = PartFiles(inputs.settings.out, inputs.facts)
        self.parts = parts_of(inputs.store, inputs.settings.rows)
        self.edges = position_edges(inputs.tokens.context)
        self.size = inputs.size(len(self.edges) - 1)
        self._encoder = Encoder(inputs.sae)
        self._label = Labeller(inputs.documents, self.edges, inputs.settings.seed)

    def do(self, stage: str, part: IndexPart, key: str, advance: Advance) -> None:
        """Makes a part's file of a stage; calls `advance` with the number of rows done."""
        make = self._filled if stage == FILL else self._counted
        self.files.write(name_of(stage, part), make(part, advance), key)
        give_back_memory()

    def blocks(self, start: int, stop: int, advance: Advance) -> Iterator[LabelledRows]:
        """Rows [start, stop) of the SAE's site, block by block."""
        site, d_sae = str(self.inputs.site), self.size.d_sae
        for block in blocks(self.inputs.store, site, start, stop, d_sae):
            yield block
            advance(len(block.x))

    def _counted(self, part: IndexPart, advance: Advance) -> dict[str, torch.Tensor]:
        tally = Tally(self.size)
        for block in self.blocks(part.start, part.stop, advance):
            tally.add(self._label.rows(block), self._encoder.entries(block.x))
        return tally.tensors()

    def _filled(self, part: IndexPart, advance: Advance) -> dict[str, torch.Tensor]:
        """Activations of the examples' tokens whose rows are in the part, with their index in the
        flattened `f`."""
        examples = _from_tensors(self.files.read(CHOSEN))
        needed = Needed.of(examples, len(self.inputs.documents.first)).arrays()
        out, sae = np.zeros_like(examples.f), self.inputs.sae
        weights = [] if self._encoder.is_dense else [sae.W_enc.T.contiguous(), sae.b_enc, sae.theta]
        arrays = [tensor.numpy() for tensor in weights]
        for block in self.blocks(part.start, part.beyond, advance):
            where = (block.sequence, block.position, needed)
            if self._encoder.is_dense:
                run_blocks(fill_from, 1, *where, self._encoder.dense(block.x), out)
            else:
                n_blocks = blocks_for(block.x.numel() * 8)
                run_blocks(fill_by_products, n_blocks, *where, block.x.numpy(), *arrays, out)
        place = np.flatnonzero(out)
        found = {"place": place, "value": out.reshape(-1)[place]}
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def tally(self) -> Tally:
        """The tally of all parts, added in their order."""
        tally = Tally(self.size)
        for part in self.parts:
            tensors = self.files.read(name_of(COUNT, part))
            tally.merge(Tally.from_tensors(self.size, tensors))
        return tally


def firings(work: Pass, do: Do, times: Seconds) -> Firings:
    """Both sweeps, and the choice of examples between them.

    Args:
        work: the pass.
        do: does the parts whose files are missing.
        times: filled with the seconds of each piece.

    Raises:
        ValueError, OSError: rows cannot be read or files cannot be written; finished parts stay.
    """
    inputs, files = work.inputs, work.files
    with timed(times, "pass"):
        do(COUNT, list(files.missing(COUNT, work.parts)), "")
        tally = work.tally()
    with timed(times, "examples"):
        drawn = Listed.of(tally.drawn)
        windows = Windows.of(inputs.settings, inputs.tokens, inputs.split)
        examples = choose(tally.top, drawn, windows, inputs.documents, inputs.settings)
        key = _digest(examples)
        if missing := list(files.missing(FILL, work.parts, key)):
            files.write(CHOSEN, _as_tensors(examples), key)
            do(FILL, missing, key)
        examples = _with_values(work, examples)
    with timed(times, "together"):
        partners = together(tally.sample, work.size.d_sae, PARTNERS)
    return _gathered(work, tally, _tokens(drawn, tally.token_rows), partners, examples)


def _gathered(
    work: Pass,
    tally: Tally,
    tokens: dict[str, np.ndarray],
    partners: FiringPartners,
    examples: Examples,
) -> Firings:
    """The results of the sweeps as one `Firings`."""
    counts = tally.counts
    return Firings(
        rows=tally.rows,
        fired=counts.fired,
        total=counts.total,
        squares=counts.squares,
        smallest=counts.smallest,
        largest=counts.largest,
        bin_width=np.ldexp(1.0, counts.exponent),
        histogram=counts.histogram,
        position_edges=work.edges,
        position_rows=tally.position_rows,
        by_position=counts.by_position,
        drawn=tally.drawn.n.astype(np.int64),
        **tokens,
        together_rows=len(tally.sample.n),
        **partners._asdict(),
        examples=examples,
    )


def _tokens(drawn: Listed, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Each latent's most frequent tokens among its drawn firings, most frequent first."""
    pairs = drawn.latent << 32 | drawn.token
    pair, count = np.unique(pairs, return_counts=True)
    latent, token = pair >> 32, pair & (2**32 - 1)
    order = np.lexsort([token, -count, latent])
    n = np.bincount(latent, minlength=1)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(n) - n, n)
    kept = order[rank < TOKENS]
    return {
        "token_latent": latent[kept],
        "token": token[kept],
        "token_count": count[kept],
        "token_rows": rows[token[kept]],
    }


def _with_values(work: Pass, examples: Examples) -> Examples:
    """The examples with the activations that all parts have found."""
    f = np.zeros_like(examples.f)
    for part in work.parts:
        found = work.files.read(name_of(FILL, part))
        f.reshape(-1)[found["place"].numpy()] = found["value"].numpy()
    # The token that an example is shown for keeps the value by which it was chosen: the second
    # sweep's product may differ from it in the last bit.
    np.copyto(f, examples.f, where=examples.f > 0)
    return replace(examples, f=f)


def _digest(examples: Examples) -> str:
    """16 hexadecimal digits over the chosen examples."""
    digest = hashlib.blake2b(digest_size=8)
    for array in (examples.latent, examples.sequence, examples.position, examples.tokens):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _as_tensors(examples: Examples) -> dict[str, torch.Tensor]:
    return {f.name: torch.from_numpy(getattr(examples, f.name)) for f in fields(examples)}


def _from_tensors(tensors: dict[str, torch.Tensor]) -> Examples:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    return Examples(**arrays)
