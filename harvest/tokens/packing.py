"""Packing: documents' tokens into sequences of one length.

Owns where BOS and EOS go, the file where sequences wait until all are there, and their global
permutation. Knows neither text nor tokenizer.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...store.format.permutations import SEQUENCES, permutation
from ...store.place.partials import naming


class Packer:
    """Concatenates documents and cuts them into sequences.

    The documents' tokens form one stream with EOS between them; every sequence is BOS and the next
    context - 1 tokens of the stream. A sequence may hold the end of one document and the start of
    the next, and attention reaches across, as in Gemma's own training. Tokens left at the end of
    the stream are dropped.
    """

    def __init__(self, context: int, bos: int, eos: int):
        if context < 2:
            raise ValueError(f"context must be at least 2 tokens, got {context}")
        self._body, self._bos, self._eos = context - 1, bos, eos
        self._waiting: list[np.ndarray] = []
        self._n_waiting = 0
        self._started = False

    @property
    def left_over(self) -> int:
        """Tokens that wait for a full sequence."""
        return self._n_waiting

    def add(self, documents: Iterable[np.ndarray]) -> np.ndarray:
        """Takes documents' token ids, each [n]; returns the sequences now full, uint32 [m,
        context].
        """
        for ids in documents:
            if self._started:
                self._append(np.array([self._eos], dtype=np.uint32))
            self._append(np.asarray(ids, dtype=np.uint32))
            self._started = True
        return self._take()

    def _append(self, ids: np.ndarray) -> None:
        self._waiting.append(ids)
        self._n_waiting += len(ids)

    def _take(self) -> np.ndarray:
        """All full sequences of what waits."""
        n_full = self._n_waiting // self._body
        if n_full == 0:
            return np.empty((0, self._body + 1), dtype=np.uint32)
        stream = np.concatenate(self._waiting)
        cut = n_full * self._body
        self._waiting, self._n_waiting = [stream[cut:]], len(stream) - cut
        bos = np.full((n_full, 1), self._bos, dtype=np.uint32)
        return np.concatenate([bos, stream[:cut].reshape(n_full, self._body)], axis=1)


class Wrapper:
    """Gives every document sequences of its own: prefix, as much text as fits, suffix, then PAD.

    A document longer than one sequence takes several, each with prefix and suffix. It is used as
    `Packer` is, and leaves nothing over.
    """

    left_over = 0

    def __init__(self, context: int, prefix: list[int], suffix: list[int], pad: int):
        self._n_text = context - len(prefix) - len(suffix)
        if self._n_text < 1:
            raise ValueError(
                f"context must have room for text beside {len(prefix)} tokens before and "
                f"{len(suffix)} after it, got {context}"
            )
        self._context, self._pad = context, pad
        self._prefix = np.array(prefix, dtype=np.uint32)
        self._suffix = np.array(suffix, dtype=np.uint32)

    def add(self, documents: Iterable[np.ndarray]) -> np.ndarray:
        """Takes documents' token ids, each [n]; returns their sequences, uint32 [m, context]."""
        pieces = [piece for ids in documents for piece in self._pieces(ids)]
        sequences = np.full((len(pieces), self._context), self._pad, dtype=np.uint32)
        for sequence, piece in zip(sequences, pieces, strict=True):
            sequence[: len(piece)] = piece
        return sequences

    def _pieces(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(ids), self._n_text):
            yield np.concatenate([self._prefix, ids[start : start + self._n_text], self._suffix])


class Turns(Wrapper):
    """Packs documents that come with prefix and suffix around them, as turns of a chat.

    One that fits is a sequence as it is. Of a longer one, the text between prefix and suffix is cut
    into pieces, and each piece is wrapped again.
    """

    def _pieces(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        if len(ids) <= self._context:
            yield ids
            return
        # The whole prefix and suffix, unless a token spans one of them and the text.
        first = _n_shared(ids, self._prefix)
        last = _n_shared(ids[first:][::-1], self._suffix[::-1])
        yield from super()._pieces(ids[first : len(ids) - last])


def _n_shared(ids: np.ndarray, other: np.ndarray) -> int:
    """Number of ids at the start that two sequences have in common."""
    n = min(len(ids), len(other))
    different = np.flatnonzero(ids[:n] != other[:n])
    return int(different[0]) if len(different) else n


class Spool:
    """Sequences on their way to the token store: appended in reading order, read in permuted order.

    They wait in a file without a name (4 bytes a token), which is gone when the process ends, so
    memory does not grow with the text. It is read like an array [n, context] of uint32, by slices.
    """

    dtype = np.dtype(np.uint32)
    ndim = 2

    def __init__(self, context: int, scratch_dir: Path | None = None):
        # Buffered writes are flushed before the file is mapped; see `permute`.
        self._folder = scratch_dir or Path(tempfile.gettempdir())
        self._file = tempfile.TemporaryFile(dir=scratch_dir, prefix="scopeworks-")  # noqa: SIM115
        self._context, self._n = context, 0
        self._order: np.ndarray | None = None
        self._map = np.empty((0, context), dtype=np.uint32)

    @property
    def shape(self) -> tuple[int, int]:
        """(sequences, context)."""
        return self._n, self._context

    def __len__(self) -> int:
        return self._n

    def append(self, sequences: np.ndarray) -> None:
        """Adds sequences [m, context]."""
        with naming(self._folder):
            self._file.write(np.ascontiguousarray(sequences, dtype=np.uint32).tobytes())
        self._n += len(sequences)

    def permute(self, seed: int, split: str) -> "Spool":
        """Fixes the order of reading: a permutation of all sequences by seed and split."""
        self._order = sequence_order(self._n, seed, split)
        with naming(self._folder):
            self._file.flush()
        if self._n:
            self._map = np.memmap(self._file, np.uint32, "r", shape=self.shape)
        return self

    def __getitem__(self, rows: slice) -> np.ndarray:
        if self._order is None:
            raise ValueError("sequences must be permuted before they are read; call permute first")
        return self._map[self._order[rows]]

    def close(self) -> None:
        """Deletes the file."""
        self._map = np.empty((0, self._context), dtype=np.uint32)
        with suppress(OSError):  # of a full disk, which was said when it was met
            self._file.close()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def sequence_order(n: int, seed: int, split: str) -> np.ndarray:
    """The permutation of a split's `n` sequences: int64 [n], by seed and the split's name."""
    name = int.from_bytes(hashlib.blake2b(split.encode("utf-8"), digest_size=8).digest(), "big")
    return permutation(n, seed, SEQUENCES, name)
