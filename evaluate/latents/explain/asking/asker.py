"""Asks many questions: reads kept answers, and sends the other questions in parallel, once each.

Owns the tries of a question whose answers are nonsense, the counts, and the end of a run that
fails. Answers are kept, so the same run continues.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from .....console import progress
from .answers import Answers
from .request import Answer, Answerer, Messages, NonsenseError, Request
from .settings import AskingSettings

_WARMER = 0.7
"""Temperature of a question's later tries: at 0 every seed gives the same answer."""


@dataclass(frozen=True)
class Question:
    """The messages of a question, and the function that reads its answer."""

    messages: Messages
    read: Callable[[str], Any]
    """Answer's text -> value; raises NonsenseError if the text is not a valid answer."""


@dataclass
class RequestCounts:
    """Counts of requests, answers and tokens."""

    asked: int = 0
    """Requests that were sent and answered."""
    kept: int = 0
    """Requests whose answer was kept from before."""
    nonsense: int = 0
    """Answers that were not valid."""
    failed: int = 0
    """Questions whose tries all gave nonsense."""
    tokens_in: int = 0
    """Tokens of the prompts, as the model counts them; 0 if it gives no count."""
    tokens_out: int = 0
    """Tokens of the answers, likewise."""


class Asker:
    """Asks one language model, and keeps its answers in a folder."""

    def __init__(self, model: Answerer, answers: Answers, settings: AskingSettings):
        self._model, self._answers, self._settings = model, answers, settings
        self._lock, self._flying = threading.Lock(), dict[str, Future[Answer]]()
        self.counts, self.name = RequestCounts(), model.name

    def ask_all(self, questions: Sequence[Question], what: str) -> list[Any | None]:
        """The value of each question's answer; None for a question that gave only nonsense.

        Args:
            questions: the questions; equal ones are asked once.
            what: title of the progress bar.

        Raises:
            ValueError, OSError: the model cannot be asked.
        """
        found: list[Any | None] = [None] * len(questions)
        with progress(what, len(questions), "answers") as bar:

            def one(i: int) -> None:
                found[i] = self._settled(questions[i])
                with self._lock:
                    bar.advance(1, failed=self.counts.failed)

            with ThreadPoolExecutor(self._model.parallel) as pool:
                futures = [pool.submit(one, i) for i in range(len(questions))]
                try:
                    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                except BaseException:
                    # Requests on their way are still waited for, and their answers are kept.
                    pool.shutdown(wait=False, cancel_futures=True)
                    self._model.stop()
                    raise
        return found

    def _settled(self, question: Question) -> Any | None:
        """The value of a question's answer, or None after the last try."""
        for request in tries(question, self._model.name, self._settings):
            try:
                return question.read(self._answered(request).text)
            except NonsenseError:
                self._count(nonsense=1)
        self._count(failed=1)
        return None

    def _answered(self, request: Request) -> Answer:
        """A request's answer: kept, awaited from another thread, or asked for now."""
        key, mine = request.key, Future[Answer]()
        with self._lock:
            flying = self._flying.setdefault(key, mine)
        if flying is not mine:
            return flying.result()
        try:
            answer = self._answers.get(request)
            if answer is None:
                answer = self._model.answer(request)
                self._answers.put(request, answer)
                self._count(
                    asked=1, tokens_in=answer.tokens_in or 0, tokens_out=answer.tokens_out or 0
                )
            else:
                self._count(kept=1)
            mine.set_result(answer)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flying[key]
        return answer

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, n in more.items():
                setattr(self.counts, name, getattr(self.counts, name) + n)


def tries(question: Question, model: str, settings: AskingSettings) -> list[Request]:
    """The requests of a question's tries, in order."""
    return [
        Request(
            model,
            question.messages,
            _WARMER if n else 0.0,
            settings.most_tokens,
            settings.llm_seed + n,
        )
        for n in range(settings.tries)
    ]


@dataclass
class RequestEstimate:
    """Requests and tokens that asking would take."""

    requests: int = 0
    kept: int = 0
    tokens_in: int = 0
    tokens_out_most: int = 0
    """If every answer is as long as it may be."""
    seen: set[str] = field(default_factory=set)

    def add(
        self,
        questions: Sequence[Question],
        model: str,
        answers: Answers,
        settings: AskingSettings,
        count: Callable[[str], int],
    ) -> None:
        """Adds questions, equal ones once. More tries after nonsense are not counted.

        Args:
            questions: the questions.
            model: name of the language model.
            answers: answers that are kept already.
            settings: settings of the requests.
            count: text -> number of its tokens.
        """
        for question in questions:
            for request in tries(question, model, settings):
                if request.key in self.seen:
                    break
                kept = answers.get(request)
                self.seen.add(request.key)
                if kept is None:
                    self.requests += 1
                    self.tokens_in += sum(count(text) for _, text in request.messages)
                    self.tokens_out_most += request.most_tokens
                    break
                self.kept += 1
                try:
                    question.read(kept.text)
                    break
                except NonsenseError:
                    continue

    def lines(self, settings: AskingSettings, counted_by: str) -> list[str]:
        """Lines to print, with the price if it is known."""
        found = [
            f"requests: {self.requests:,} to be asked, {self.kept:,} answered before",
            f"tokens: {self.tokens_in:,} to be read (counted by {counted_by}), at most "
            f"{self.tokens_out_most:,} to be written",
        ]
        price_in, price_out = settings.price_in, settings.price_out
        if price_in is None or price_out is None:
            return [*found, "price: not known without --price-in and --price-out"]
        read = self.tokens_in * price_in / 1e6
        most = read + self.tokens_out_most * price_out / 1e6
        return [*found, f"price: ${read:,.2f} for what is read, at most ${most:,.2f} in all"]
