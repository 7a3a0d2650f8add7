"""A language model at an OpenAI-compatible URL.

Owns the request over HTTP, its retries and its pace. A temporary failure (a full queue, a time-out,
an error of the server) is tried again with growing waits, at most `attempts` times. A permanent one
(no such model, a missing key) stops the run at once. The key is taken from the environment and goes
into one header only; if a server repeats it, errors show *** instead.
"""

import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from .....foreign import Document, read_document
from .request import Answer, Request
from .settings import AskingSettings

_PASSING = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_LONGEST_WAIT_S = 60.0
_MOST_BYTES = 2**22
_SHOWN = 200


class _Message(Document):
    content: str | None = None


class _Choice(Document):
    message: _Message


class _Usage(Document):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(Document):
    choices: list[_Choice]
    usage: _Usage | None = None


class PassingError(OSError):
    """A temporary failure; `after` are the seconds that the server asks to wait."""

    def __init__(self, text: str, after: float | None = None):
        super().__init__(text)
        self.after = after


class Endpoint:
    """An endpoint; see `request.Answerer`."""

    def __init__(self, settings: AskingSettings):
        assert settings.endpoint is not None and settings.llm is not None
        http = _http()
        self.name, self.parallel = settings.llm, settings.parallel
        self._url = settings.endpoint.rstrip("/") + "/chat/completions"
        self._settings, self._stopped = settings, threading.Event()
        self._pace = _Pace(settings.requests_per_minute, self._stopped)
        self._retried = _retrying(settings.attempts, self._stopped)
        key = _key(settings.key_from)
        self._secret = _spellings(key)
        self._client = http.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=http.Timeout(settings.timeout_s),
            limits=http.Limits(max_connections=settings.parallel),
        )
        self._transport_error, self._slow = http.TransportError, http.TimeoutException
        self._bad_url = (http.InvalidURL, http.UnsupportedProtocol)
        self._unreadable = (http.HTTPError, http.StreamError, http.CookieConflict)

    def answer(self, request: Request) -> Answer:
        """Asks until there is an answer.

        Raises:
            OSError: the endpoint did not answer in `attempts` tries.
            ValueError: it refuses the request, or does not speak this protocol.
        """
        return self._retried(self._once, request)

    def stop(self) -> None:
        """Ends all waiting."""
        self._stopped.set()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _once(self, request: Request) -> Answer:
        """Sends a request once."""
        self._pace.wait()
        if self._stopped.is_set():
            raise ValueError("the run has stopped")
        try:
            response, data = self._sent(request)
        except self._bad_url as error:
            raise ValueError(
                f"endpoint must be a URL, got {self._url}: {self._shown(error)}"
            ) from None
        except self._slow:
            raise self._late() from None
        except self._transport_error as error:
            text = f"endpoint {self._url} cannot be reached: {self._shown(error)}"
            raise PassingError(text) from None
        except self._unreadable as error:
            text = f"endpoint {self._url} answered what cannot be read: {self._shown(error)}"
            raise PassingError(text) from None
        if response.status_code != 200:
            raise self._refusal(response, data)
        return self._read(data)

    def _sent(self, request: Request) -> tuple[Any, bytes]:
        """A response and its body; stops reading a body that is too large.

        Raises:
            PassingError: the answer took longer than `timeout_s`.
        """
        # The client's own time limit starts again with every byte, so a slow answer needs this one.
        end, data = time.monotonic() + self._settings.timeout_s, bytearray()
        with self._client.stream("POST", self._url, json=request.content()) as response:
            for piece in response.iter_bytes():
                data += piece
                if len(data) > _MOST_BYTES:
                    break
                if time.monotonic() > end:
                    raise self._late()
        return response, bytes(data)

    def _late(self) -> PassingError:
        """The error for an answer that took too long."""
        limit = self._settings.timeout_s
        return PassingError(f"endpoint {self._url} gave no answer in {limit:g} s")

    def _shown(self, said: bytes | Exception) -> str:
        """What a server said, in one short line without the key."""
        if isinstance(said, bytes):
            text = said.decode(errors="replace")
        else:
            text = str(said) or type(said).__name__
        # The key is replaced before the line is cut: a part of the key would not be found.
        return " ".join(self._secret.sub("***", text).split())[:_SHOWN]

    def _refusal(self, response: Any, data: bytes) -> Exception:
        """The error for a response that is not an answer."""
        code, said = response.status_code, self._shown(data)
        text = f"endpoint {self._url} answered {code}"
        if code in _PASSING:
            return PassingError(f"{text}: {said}", _seconds(response.headers.get("retry-after")))
        if code in (401, 403):
            name = self._settings.key_from
            how = f"check ${name}" if name else "name the variable that holds it with --key-from"
            return ValueError(f"{text}: it asks for a key; {how}")
        return ValueError(f"{text}: {said}; check --endpoint and --llm")

    def _read(self, data: bytes) -> Answer:
        """The answer in a completion.

        Raises:
            ValueError: the document is too large.
            PassingError: it is not a completion.
        """
        if len(data) > _MOST_BYTES:
            raise ValueError(
                f"endpoint {self._url} answered more than {_MOST_BYTES:,} bytes; check --endpoint"
            )
        try:
            found = read_document(_Completion, data, f"the answer of {self._url}")
        except ValueError as error:
            # The error shows values cut short, and so may show a part of the key.
            has_key = self._secret.search(data.decode(errors="replace"))
            problem = f"it answered {self._shown(data)}" if has_key else error
            raise PassingError(
                f"endpoint must answer as chat completions do, but {problem}"
            ) from None
        usage = found.usage or _Usage()
        text = (found.choices[0].message.content or "") if found.choices else ""
        return Answer(text, usage.prompt_tokens, usage.completion_tokens)


class _Pace:
    """Spaces requests evenly, `per_minute` in a minute."""

    def __init__(self, per_minute: float | None, stopped: threading.Event):
        self._gap_s = 60 / per_minute if per_minute else 0.0
        self._lock, self._next, self._stopped = threading.Lock(), 0.0, stopped

    def wait(self) -> None:
        """Waits until it is this request's turn."""
        if not self._gap_s:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap_s
        self._stopped.wait(turn - now)


def _http() -> Any:
    """httpx, under the name by which huggingface_hub installs it."""
    try:
        import httpx2 as http
    except ImportError:
        import httpx as http
    return http


def _key(key_from: str | None) -> str | None:
    """The key in the environment.

    Raises:
        ValueError: the variable is not set.
    """
    if key_from is None:
        return None
    key = os.environ.get(key_from, "").strip()
    if not key:
        raise ValueError(f"key_from must name a variable that holds the key, got {key_from}, empty")
    if not key.isascii() or not key.isprintable():
        raise ValueError(f"the key in ${key_from} must be printable ASCII, got other characters")
    return key


def _spellings(key: str | None) -> re.Pattern[str]:
    r"""A pattern that finds the key in a text, also as JSON may write it: with \ before / or "."""
    if key is None:
        return re.compile(r"(?!)")  # nowhere
    return re.compile("".join(r"\\?" + re.escape(letter) for letter in key))


def _seconds(text: str | None) -> float | None:
    """A Retry-After header in seconds; None for a date, for which the growing waits are used."""
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None


def _retrying(attempts: int, stopped: threading.Event) -> Callable[..., Answer]:
    """A function that calls another one again after temporary failures."""
    try:
        import tenacity
    except ImportError as error:
        raise ValueError(
            "asking an endpoint needs tenacity, which is not installed; "
            "pip install 'scopeworks[latents]'"
        ) from error
    growing = tenacity.wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_S)

    def wait(state: Any) -> float:
        failure = state.outcome.exception()
        asked = min(failure.after or 0.0, 10 * _LONGEST_WAIT_S)
        return max(asked, growing(state))

    return tenacity.Retrying(
        stop=tenacity.stop_any(
            tenacity.stop_after_attempt(attempts), tenacity.stop_when_event_set(stopped)
        ),
        wait=wait,
        retry=tenacity.retry_if_exception_type(PassingError),
        sleep=tenacity.sleep_using_event(stopped),
        reraise=True,
    )
