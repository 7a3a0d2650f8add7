"""Texts of tokens: bytes, characters of several tokens."""

import pytest

from scopeworks.evaluate.latents.files.gathered import joined, shown


def surrogates(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([b"a", b"b"], ["a", "b"]),
        ([b"a", b"\xe2", b"\x80", b"\x9c", b"b"], ["a", "“", "", "", "b"]),
        ([b" \xe2\x80", b"\x9cx", b"y"], [" “x", "", "y"]),
        ([b"\xe2", b"a"], ["\\xe2", "a"]),
        ([b"a", b"\xe2\x80"], ["a", "\\xe2\\x80"]),
        ([b"\xe2", b"\xe2", b"\x82\xac"], ["\\xe2", "€", ""]),
        ([b"\xc3", b"\xa9", b"\xc3", b"\xa8"], ["é", "", "è", ""]),
        ([b"\\xe2"], ["\\xe2"]),
    ],
)
def test_characters_of_several_tokens_stand_at_the_first(tokens: list[bytes], expected: list[str]):
    assert joined([surrogates(token) for token in tokens]) == expected


def test_byte_by_itself_is_written_as_one():
    assert shown(surrogates(b" \xe2\x80")) == " \\xe2\\x80"
    assert shown("é</b>") == "é</b>"
