"""What a user sees in the terminal: progress, and errors as one line.

Progress is a rich bar on a terminal, and otherwise a plain log line every `LOG_EVERY_S`. Errors
that a user can repair (ValueError, OSError) become one line and exit code 2; SCOPEWORKS_TRACEBACK=1
shows the traceback. Output that nobody reads, or that the terminal cannot show, is no error: the
command goes on, and its exit code is that of its work.
"""

import errno
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

LOG_EVERY_S = 15.0

_FULL_DISK = "; make room: what was committed is kept, and the same command continues"

_NOBODY_READS = (errno.EPIPE, errno.EIO)
"""Errors of writing to a closed pipe, and to a terminal that was closed."""


RETRY = 75
"""Exit code of a task whose inputs do not exist yet: run it again (EX_TEMPFAIL of sysexits.h)."""


PLACE_FAILED = 74
"""Exit code of a task that failed because of files or network: run it again (EX_IOERR)."""


_HIDDEN: ContextVar[bool] = ContextVar("hidden", default=False)


class NotReadyError(ValueError):
    """The inputs of a task are still being made by other tasks; run it again later."""


class Progress:
    """The progress of one running piece of work; call `advance` as units get done."""

    def __init__(self, description: str, total: int | None, unit: str, show: Callable[..., None]):
        self._started = time.monotonic()
        self._description, self._total, self._unit, self._show = description, total, unit, show
        self.done = 0

    def advance(self, n: int, **fields: float | int | str) -> None:
        """Counts `n` more units as done; shows `fields` (name=value) beside the rate."""
        self.done += n
        self._show(self.done, self.rate, " ".join(f"{k} {_short(v)}" for k, v in fields.items()))

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self.done / max(time.monotonic() - self._started, 1e-9)

    def line(self, extra: str) -> str:
        """The state as one log line."""
        of = f"/{self._total:,}" if self._total is not None else ""
        left = ""
        if self._total is not None and self.rate > 0:
            left = f", {_duration((self._total - self.done) / self.rate)} left"
        text = f"{self._description}: {self.done:,}{of} {self._unit}, {_short(self.rate)}/s{left}"
        return f"{text} {extra}".rstrip()


@contextmanager
def progress(description: str, total: int | None, unit: str) -> Iterator[Progress]:
    """Shows progress over `total` units (None if unknown), with rate and time left."""
    shown = _rich_bar if sys.stderr.isatty() else _log_lines
    if _HIDDEN.get():
        shown = _nothing
    with shown(description, total, unit) as bar:
        yield bar


@contextmanager
def hidden_progress() -> Iterator[None]:
    """Hides the progress of this thread during the block, because the caller shows its own."""
    before = _HIDDEN.set(True)
    try:
        yield
    finally:
        _HIDDEN.reset(before)


@contextmanager
def _nothing(description: str, total: int | None, unit: str) -> Iterator[Progress]:
    """Hidden progress."""
    yield Progress(description, total, unit, lambda *_state: None)


@contextmanager
def _log_lines(description: str, total: int | None, unit: str) -> Iterator[Progress]:
    """Progress for log files: a line every LOG_EVERY_S, and one at the end after two seconds."""
    started = last = time.monotonic()

    def show(_done: int, _rate: float, extra: str) -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_EVERY_S:
            last = time.monotonic()
            print(bar.line(extra), file=sys.stderr, flush=True)

    bar = Progress(description, total, unit, show)
    yield bar
    if time.monotonic() - started >= 2:
        print(bar.line("done"), file=sys.stderr, flush=True)


@contextmanager
def _rich_bar(description: str, total: int | None, unit: str) -> Iterator[Progress]:
    """Progress for terminals."""
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}")
        if total is not None
        else rich_progress.TextColumn("{task.completed:,.0f} {task.fields[unit]}"),
        rich_progress.TextColumn("{task.fields[rate]}/s"),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[extra]}"),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(description, total=total, unit=unit, rate="", extra="")

        def show(done: int, rate: float, extra: str) -> None:
            bars.update(task, completed=done, rate=_short(rate), extra=extra)

        yield Progress(description, total, unit, show)


def run_command(command: Callable[[], Any]) -> None:
    """Runs a command; its errors become one line and an exit code.

    Exit codes: 0, 1 (the command's own result), 2 (an error that a user can repair), 74 (a task
    that failed because of files or network), 75 (a task whose inputs do not exist yet), 130
    (Ctrl-C). Output that nobody reads (a closed pipe, `>&-`) is dropped and changes none of them.
    """
    _make_printing_safe()
    try:
        command()
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer itself turns Ctrl-C into a silent exit with 130.
        code = 130 if isinstance(stop, KeyboardInterrupt) else stop.code
        if code == 130:
            print(
                "stopped; what was committed is kept, the same command continues", file=sys.stderr
            )
        raise SystemExit(code) from None
    except NotReadyError as wait:
        print(f"not ready: {wait}", file=sys.stderr)
        raise SystemExit(RETRY) from None
    except (ValueError, OSError) as error:
        if os.environ.get("SCOPEWORKS_TRACEBACK"):
            raise
        _say(error)
        raise SystemExit(2) from None


@contextmanager
def place_failures_apart() -> Iterator[None]:
    """For a task of a batch job: an error of reading or writing ends it with `PLACE_FAILED`,
    because it may succeed the next time. A missing file is not such an error."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if os.environ.get("SCOPEWORKS_TRACEBACK"):
            raise
        _say(error)
        raise SystemExit(PLACE_FAILED) from None


def _say(error: ValueError | OSError) -> None:
    """Prints an error as one line."""
    hint = _FULL_DISK if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) else ""
    print(f"error: {_text(error)}{hint}", file=sys.stderr)


class _Output(io.FileIO):
    """The bytes of a standard stream; dropped if nobody can read them any more."""

    def write(self, data: Any) -> int:
        """See `io.RawIOBase.write`."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _NOBODY_READS:
                raise
            return memoryview(data).nbytes


def _make_printing_safe() -> None:
    """Replaces standard output and error by streams that do not raise if nobody reads them. Streams
    that were replaced before, as tests do, are left alone."""
    for descriptor, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue
        if stream is None:  # closed: the next opened file would get this descriptor
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
        if name != "stdin":
            setattr(sys, name, _safe_stream(descriptor, stream))


def _safe_stream(descriptor: int, stream: Any) -> io.TextIOWrapper:
    """A stream in the terminal's encoding, with escapes for characters that it does not have."""
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(descriptor, "wb", closefd=False)),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=descriptor == 2 or os.isatty(descriptor),
    )


def _text(error: BaseException) -> str:
    """An error as one line of printable characters; its type if it has no text."""
    text = " ".join(str(error).splitlines()).strip() or type(error).__name__
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _short(value: float | int | str) -> str:
    """A number with four significant digits, above 1,000 as a whole number; text as it is."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
