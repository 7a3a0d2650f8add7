"""Questions about a module: who is asked for, in which words, and whose are held out."""

import pytest

from scopeworks.harvest.text.documents import TextDocument, is_held_out
from scopeworks.harvest.text.stdlib import stdlib_sources
from scopeworks.pipelines.tiny_model.questions import (
    HELD_OUT_SHARE,
    Turn,
    first_sentence,
    module_name,
    questions_of,
    stdlib_questions,
)

MODULE = '''
def copy(src: str, dst, *, follow=True) -> str:
    """Copy data from src to dst. Return dst.

    More text.
    """

if True:
    class Reader(Base, metaclass=Meta):
        def read(self, n=-1):
            """
            Read at most n
            bytes
            """
        def close(self): ...
'''


def test_module_asks_for_all_that_it_defines():
    assert questions_of(TextDocument("/elsewhere/shutil.py", MODULE)) == [
        Turn("What does `shutil.copy(src, dst, *, follow=True)` do?", "Copy data from src to dst."),
        Turn(
            "Write the signature in `shutil`: Copy data from src to dst.",
            "`copy(src, dst, *, follow=True)`",
        ),
        Turn("What does `shutil.Reader(Base)` do?", ""),
        Turn("What does `shutil.Reader.read(self, n=-1)` do?", "Read at most n bytes"),
        Turn("Write the signature in `shutil.Reader`: Read at most n bytes", "`read(self, n=-1)`"),
        Turn("What does `shutil.Reader.close(self)` do?", ""),
    ]


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return x.  It is x.", "Return x."),
        ("Return a.b of x", "Return a.b of x"),
        ("Is it x? Yes.", "Is it x?"),
        ("D.keys()", ""),
        ("", ""),
    ],
)
def test_first_sentence_is_on_one_line(docstring, sentence):
    assert first_sentence(docstring) == sentence


def test_modules_are_called_as_they_are_imported():
    names = {module_name(path) for path in stdlib_sources()}
    assert {"shutil", "email", "email.message", "asyncio.events"} <= names


def test_questions_of_the_standard_library_are_split_by_module():
    learnt, held_out = stdlib_questions(held_out=False), stdlib_questions(held_out=True)
    assert len(learnt) > 10 * len(held_out) > 5000
    for some in (learnt, held_out):
        assert len(set(some)) == len(some) > len({one.asked for one in some})
    texts = {module_name(path): path.read_text(encoding="utf-8-sig") for path in stdlib_sources()}
    (probe,) = [one for one in learnt + held_out if "`shutil.copyfileobj(" in one.asked]
    assert (probe in held_out) == is_held_out(texts["shutil"], HELD_OUT_SHARE)
    assert len({one.asked for one in learnt} & {one.asked for one in held_out}) < 10
