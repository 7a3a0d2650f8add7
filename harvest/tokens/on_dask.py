"""On Dask: the parts of a text tokenized by Dask workers.

Owns the task that a worker runs, and the order in which parts are waited for. A part is a task, and
its file is the result, so a part whose worker died is made again by another.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import replace
from functools import lru_cache
from threading import Lock
from typing import Any

from ...workers.cluster import RETRIES, Watch, check_done, connect
from ..settings import TokenizeSettings, everywhere, from_driver, to_worker
from .part_files import TextPart, write_part
from .text_parts import make_part, parts_location

_AHEAD = 4
_POLL_S = 0.1
_ONE_AT_A_TIME = Lock()


def made_on_dask(
    parts: Iterable[TextPart], there: set[str], settings: TokenizeSettings, tokenizer: str
) -> Generator[TextPart, None, None]:
    """Yields the parts in their order, each once its file is there (a stream at once).

    Only a few parts per worker are begun ahead of the one that the caller takes, so that little is
    wasted when a token budget ends the run early.

    Args:
        parts: in reading order.
        there: keys of the parts that are made already.
        settings: of the command; `dask` names the cluster.
        tokenizer: identity that every worker's tokenizer must have.

    Raises:
        OSError: the scheduler does not answer, or a part failed whatever worker tried it.
        ValueError: `settings.dask` is no cluster, text is broken, or a worker has another
            tokenizer.
    """
    with connect(settings.dask or "") as client:
        sent, begun = to_worker(settings), deque[tuple[TextPart, Any]]()
        watch = Watch(client)
        for part in parts:
            made = not part.key or part.key in there
            future = None if made else _submit(client, sent, part, tokenizer)
            begun.append((part, future))
            if len(begun) > _AHEAD * _n_threads(client):
                yield _waited_for(watch, *begun.popleft())
        while begun:
            yield _waited_for(watch, *begun.popleft())


def _n_threads(client: Any) -> int:
    """How many tasks the present workers run at once; two if there is no worker yet."""
    return max(2, sum(client.nthreads().values()))


def _submit(client: Any, sent: str, part: TextPart, tokenizer: str) -> Any:
    """Begins a part. Dask knows it by the part's own key, so that none is made twice."""
    key = f"tokenize-{part.key}"
    there = tuple(replace(source, path=everywhere(source.path)) for source in part.sources)
    return client.submit(
        _tokenize_part, sent, replace(part, sources=there), tokenizer, key=key, retries=RETRIES
    )


def _waited_for(watch: Watch, part: TextPart, future: Any) -> TextPart:
    """The part, once its file is there."""
    if future is not None:
        while not future.done():
            watch.processing()
            time.sleep(_POLL_S)
        check_done(future, f"text {part.files[0]}")
    return part


def _tokenize_part(settings_json: str, part: TextPart, tokenizer: str) -> None:
    """The task: makes one part on this worker. The file is its result."""
    settings = from_driver(TokenizeSettings, settings_json)
    # One part at a time: the tokenizer's own threads use the worker's cores, and it has state.
    with _ONE_AT_A_TIME:
        batches = make_part(
            part, settings, _tokenizer_here(settings.model, tokenizer, settings.packing)
        )
        write_part(parts_location(settings), part, batches)


@lru_cache(maxsize=1)
def _tokenizer_here(model: str, wanted: str, packing: str) -> Any:
    """This worker's tokenizer, loaded once and checked against what the others have."""
    from ..model.loading import load_tokenizer
    from .chat import identity_of

    tokenizer, _ = load_tokenizer(model)
    if (found := identity_of(tokenizer, packing)) != wanted:
        raise ValueError(
            f"every worker must have the same tokenizer {model} ({wanted}), one has another "
            f"({found}); put it where all workers reach it"
        )
    return tokenizer
