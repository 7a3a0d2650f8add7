"""Errors of the hub's client: the status is said wherever in the chain of causes it is."""

from types import SimpleNamespace

import pytest

from scopeworks.hub_errors import hub_hint


class AnsweredError(Exception):
    """An error with the hub's answer, as the client raises them."""

    def __init__(self, code: int):
        self.response = SimpleNamespace(status_code=code)


@pytest.mark.parametrize("code", [401, 403])
def test_a_refusal_below_another_error_names_its_status(code):
    outer = RuntimeError("could not fetch")
    outer.__cause__ = AnsweredError(code)
    assert hub_hint(outer).startswith(f"the hub refuses it ({code}): run `hf auth login`")


def test_no_answer_is_a_matter_of_the_network():
    assert hub_hint(RuntimeError("no route")).startswith("the hub cannot be reached: check the")
