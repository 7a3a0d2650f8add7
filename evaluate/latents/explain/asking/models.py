"""Opens the language model that settings name, with the folder of its kept answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .answers import Answers
from .asker import Asker, Question, RequestEstimate
from .request import Answerer
from .settings import AskingSettings

ANSWERS = "explanations/answers"
"""Folder of the kept answers, in an index."""


@contextmanager
def asker(settings: AskingSettings, index: Path) -> Iterator[Asker]:
    """An asker of the settings' language model, which keeps answers in the index.

    Raises:
        ValueError: there is no such model, or no key.
    """
    model = _model(settings)
    try:
        yield Asker(model, Answers(index / ANSWERS), settings)
    finally:
        model.close()


def _model(settings: AskingSettings) -> Answerer:
    """The model at the endpoint, or the one on this machine."""
    if settings.llm_model:
        from .local import LocalModel

        return LocalModel(settings.llm_model)
    from .endpoint import Endpoint

    return Endpoint(settings)


def estimate(
    questions: list[Question], settings: AskingSettings, index: Path, tokenizer: Any
) -> list[str]:
    """Lines on the requests, tokens and price of asking; contacts no endpoint and needs no key.

    Args:
        questions: the questions.
        settings: the language model and the prices.
        index: the index's folder.
        tokenizer: tokenizer of the index's model, which estimates an endpoint's tokens.
    """
    found, answers = RequestEstimate(), Answers(index / ANSWERS)
    if settings.llm_model:
        from .local import LocalModel

        model = LocalModel(settings.llm_model)
        found.add(questions, model.name, answers, settings, model.count)
        return found.lines(settings, f"{model.name}'s own tokenizer")
    assert settings.llm is not None
    found.add(questions, settings.llm, answers, settings, _counter(tokenizer))
    return found.lines(settings, f"the index's tokenizer, an estimate for {settings.llm}")


def _counter(tokenizer: Any) -> Callable[[str], int]:
    """A function that counts the tokens of a text."""
    return lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
