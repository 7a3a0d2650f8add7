"""Tokenize: from text to a token store.

Owns the run: text in parts, made here or on workers, packed in reading order, written. `documents`
reads, `text_parts` makes parts, `packing` packs and permutes.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...console import Progress, progress
from ...settings import differences
from ...store import TokenStore
from ...store.place.place import Place
from ...verbs import takes
from ...workers.cluster import check_cluster
from ...workers.share import ALL, TaskShare
from ..model.loading import load_tokenizer
from ..model.vocabulary import check_context, tokenizer_fingerprint
from ..settings import TokenizeSettings, everywhere
from ..settings_beside import write_settings
from ..text.documents import ReadReport
from ..text.sources import expand
from ..text.text_file import TextFile, is_stream
from .chat import ChatTemplate, identity_of, template_fingerprint
from .in_shares import check_all_made, make_share
from .on_dask import made_on_dask
from .packing import Packer, Spool, Turns, Wrapper
from .part_files import TextPart, TokenizedTexts, read_part, write_part
from .splits import Splits
from .text_parts import cut, make_part, owned_parts, parts_location, remove_parts, sweep_parts

__all__ = ["TokenizeReport", "TokenizeSettings", "tokenize_text"]


_COMPARED = ("tokenizer", "chat_template", "files")
"""Entries of a store's provenance that must be the same, besides the settings."""


@dataclass
class TokenizeReport:
    """What was read and written."""

    already_done: bool = False
    """Whether the store was there before, made by the same settings from the same files."""

    read: ReadReport = field(default_factory=ReadReport)
    sequences: dict[str, int] = field(default_factory=dict)
    """Split -> sequences."""
    left_over_tokens: int = 0
    """Tokens at the end of each split that fill no sequence."""

    place: str = ""
    """The token store's absolute path or URL."""

    def as_setting(self) -> str:
        """The token store's name in settings."""
        return self.place

    def __repr__(self) -> str:
        return f"TokenizeReport({'; '.join(str(self).splitlines())})"

    def __str__(self) -> str:
        written = ", ".join(f"{n:,} {split}" for split, n in self.sequences.items())
        if self.already_done:
            return f"already complete by the same settings: {written} sequences"
        return f"{self.read}\nwrote {written} sequences; {self.left_over_tokens:,} tokens left over"


@takes(TokenizeSettings)
def tokenize_text(
    settings: TokenizeSettings, scratch_dir: Path | None = None, share: TaskShare = ALL
) -> TokenizeReport:
    """Tokenizes text into a token store with the splits `train` and `held_out`.

    Equal text and settings give the same store, bit for bit, with any number of workers. The same
    command continues one that was stopped: tokenized text waits beside the store, part by part,
    until all of it is packed. A complete store is left as it is if it was made by the same settings
    from files of the same sizes.

    Args:
        settings: see `TokenizeSettings`.
        scratch_dir: where the sequences wait, 4 bytes a token; the system's temporary folder by
            default.
        share: of the text's parts; the first one packs them all.

    Raises:
        NotReadyError: other shares have not made all parts yet.
        OSError: text, model or output cannot be read or written.
        ValueError: text yields no full sequence, the context is longer than the model's, or the
            output holds something else.
    """
    if settings.dask is not None:
        check_cluster(settings.dask)
    _check_text(settings)
    _check_out(settings)
    tokenizer, config = load_tokenizer(settings.model)
    check_context(settings.context, config, settings.model)
    new_packer, masked_prefix = _packing(settings, tokenizer)
    report = TokenizeReport(place=everywhere(settings.out))
    sources = expand(settings.text, settings.storage_options, report.read.skipped)
    provenance = _provenance(settings, tokenizer, sources) | {"masked_prefix": masked_prefix}
    if (done := _already_done(settings, provenance)) is not None:
        return done
    if not share.is_all:
        parts = cut(sources, settings, identity_of(tokenizer, settings.packing))
        make_share(parts, settings, tokenizer, share)
        if not share.is_first:
            return report
        check_all_made(parts, settings)
    with owned_parts(settings):
        # Another command may have made this store since the first look.
        if (done := _already_done(settings, provenance)) is not None:
            return done
        _tokenize(settings, tokenizer, sources, new_packer, provenance, report, scratch_dir)
        remove_parts(settings)
    return report


def _tokenize(
    settings: TokenizeSettings,
    tokenizer: Any,
    sources: list[TextFile],
    new_packer: Any,
    provenance: dict[str, Any],
    report: TokenizeReport,
    scratch_dir: Path | None,
) -> None:
    """Makes the token store."""
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    store = TokenStore.create(
        settings.place(settings.out),
        context=settings.context,
        provenance=provenance,
        **special,
    )
    with ExitStack() as stack:
        splits = Splits(settings, new_packer, scratch_dir, stack)
        _pack_into(splits, settings, tokenizer, sources, report)
        spools = _permuted(splits, report)
        store.write(spools)
        splits.warn_of_none_held_out(report.read.documents)
    report.sequences = {name: len(spool) for name, spool in spools.items()}
    report.left_over_tokens = splits.left_over
    write_settings(settings.place(settings.out), "tokenize", settings)


def _permuted(splits: Splits, report: TokenizeReport) -> dict[str, Spool]:
    """The splits in permuted order; the error, if there was too little text, says what was read."""
    try:
        return splits.permuted()
    except ValueError as error:
        raise ValueError(f"{error} ({report.read})") from error


def _pack_into(
    splits: Splits,
    settings: TokenizeSettings,
    tokenizer: Any,
    sources: list[TextFile],
    report: TokenizeReport,
) -> None:
    """Packs all text, or what fills the token budget."""
    with (
        progress("tokenize", None, "tokens") as bar,
        closing(_batches(settings, tokenizer, sources, bar)) as batches,
    ):
        for batch in batches:
            report.read.add(batch.read)
            for split, ids in batch.documents():
                splits.add(split, ids)
                if splits.full:
                    return


def _batches(
    settings: TokenizeSettings, tokenizer: Any, sources: list[TextFile], bar: Progress
) -> Generator[TokenizedTexts, None, None]:
    """The text's batches in reading order, made here or on workers; `bar` advances by new tokens.

    A part is made first, unless an earlier run of the command has made it, and then read.
    """
    identity, location = identity_of(tokenizer, settings.packing), parts_location(settings)
    parts = cut(sources, settings, identity)
    sweep_parts(location)
    there = set(location.children())
    if settings.dask is None:
        made = _made_here(parts, there, settings, tokenizer, bar)
    else:
        made = made_on_dask(parts, there, settings, identity)
    with closing(made):
        for part in made:
            if not part.key:
                yield from _counted(make_part(part, settings, tokenizer), bar)
            elif settings.dask is None or part.key in there:
                yield from read_part(location, part)
            else:
                yield from _counted(read_part(location, part), bar)


def _made_here(
    parts: Iterable[TextPart],
    there: set[str],
    settings: TokenizeSettings,
    tokenizer: Any,
    bar: Progress,
) -> Generator[TextPart, None, None]:
    """Yields the parts, each once its file is there, made by this process."""
    location = parts_location(settings)
    for part in parts:
        if part.key and part.key not in there:
            batches = make_part(part, settings, tokenizer)
            write_part(location, part, _counted(batches, bar))
        yield part


def _counted(batches: Iterable[TokenizedTexts], bar: Progress) -> Iterator[TokenizedTexts]:
    """Yields the batches, and advances the bar by their tokens."""
    for batch in batches:
        bar.advance(len(batch.ids))
        yield batch


def _check_text(settings: TokenizeSettings) -> None:
    """Refuses workers for text that only one process can read."""
    if settings.dask is not None and all(map(is_stream, settings.text)):
        raise ValueError(
            f"dask has no effect on {', '.join(settings.text)}, a stream that one process reads; "
            "leave it out, or pass files"
        )


def _check_out(settings: TokenizeSettings) -> None:
    """Refuses an output inside a folder of text, which would read it the next time."""
    for path in settings.text:
        if _is_below(settings.out, path):
            raise ValueError(
                f"out must be outside the text folder {path}, got {settings.out}; "
                "choose another place"
            )


def _is_below(out: str, folder: str) -> bool:
    """Whether an output is in a folder or bucket."""
    if Place(folder).is_remote or Place(out).is_remote:
        return f"{out}/".startswith(f"{folder.rstrip('/')}/")
    place, inside = Path(folder).expanduser(), Path(out).expanduser()
    return place.is_dir() and inside.resolve().is_relative_to(place.resolve())


def _packing(
    settings: TokenizeSettings, tokenizer: Any
) -> tuple[Callable[[], Packer | Wrapper], int]:
    """A function that makes a split's packer; how many first positions of sequences give no row."""
    bos, eos, pad = (getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad"))
    context = settings.context
    if settings.packing == "concatenate":
        return partial(Packer, context, bos, eos), 0
    if settings.packing == "document":
        return partial(Wrapper, context, [bos], [], pad), 0
    chat = ChatTemplate(tokenizer)
    return partial(Turns, context, chat.prefix, chat.suffix, pad), len(chat.prefix)


def _provenance(
    settings: TokenizeSettings, tokenizer: Any, sources: list[TextFile]
) -> dict[str, Any]:
    """What decides the tokens: the settings, the tokenizer, and the files by name and size."""
    known = {one.path: one.size for one in sources if not is_stream(one.path)}
    comparable = len(known) == len(sources) and None not in known.values()
    listed = json.dumps(known, sort_keys=True).encode("utf-8")
    chat = settings.packing == "chat"
    return {
        "settings": settings.model_dump(mode="json", exclude={"out", "dask"}),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "files": hashlib.blake2b(listed, digest_size=8).hexdigest() if comparable else None,
        **({"chat_template": template_fingerprint(tokenizer)} if chat else {}),
    }


def _already_done(settings: TokenizeSettings, provenance: dict[str, Any]) -> TokenizeReport | None:
    """The report of a complete store of the same provenance; None if there is no store.

    Raises:
        ValueError: the store there has another provenance.
    """
    try:
        store = TokenStore.open(settings.place(settings.out))
    except FileNotFoundError:
        return None
    old = store.provenance
    changed = differences(
        old.get("settings", {}) | {name: old.get(name) for name in _COMPARED},
        provenance["settings"] | {name: provenance.get(name) for name in _COMPARED},
    )
    if changed or provenance["files"] is None:
        why = "; ".join(changed) or "its text cannot be compared with what it was then"
        raise ValueError(
            f"token store {settings.out} is complete and was made otherwise: {why}; "
            "choose another place or the old settings"
        )
    place = everywhere(settings.out)
    return TokenizeReport(already_done=True, sequences=dict(store.splits), place=place)
