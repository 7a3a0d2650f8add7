"""Kinds of text of Python's sources, and the suite's SAEs measured on them."""

import pytest

from scopeworks.pipelines.studies.inputs.subset_text import kinds_of_text, subset_tokens
from scopeworks.tests.pipelines.small_suite import suite

SOURCE = """\
'''Doc of
module.'''
import os  # why

# alone
def f():
    "one line"
    return "# no"
"""


def test_docstrings_comments_and_code_are_told_apart():
    assert kinds_of_text(SOURCE) == {
        "docstrings": "'''Doc of\nmodule.'''\n\n    \"one line\"\n",
        "comments": "# why\n# alone",
        "code": 'import os\ndef f():\n    return "# no"\n',
    }


@pytest.mark.parametrize("source", ["def f(:", "", "\0"])
def test_what_is_no_source_has_no_kinds(source):
    assert kinds_of_text(source) == {}


def test_a_text_without_subsets_is_refused_before_anything_is_run(tmp_path):
    with pytest.raises(ValueError, match=r"study subsets must .*\[text\] subset_field"):
        subset_tokens(suite(tmp_path), "subsets")
    assert not (tmp_path / "out").exists()
