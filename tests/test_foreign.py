import pytest

from scopeworks.foreign import Document, parse_json, read_document


class Example(Document):
    rows: int
    name: str = "none"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'{"a": 1e400}', "1e400 is beyond float64"),
        (b'{"a": 1, "a": 2}', "key 'a' is given twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", ": a number of 5,000 digits$"),
        (b"\xff\xfe\xfa", "not valid JSON"),
        (b"", "not valid JSON"),
    ],
)
def test_what_is_no_json_is_one_line_with_the_files_name(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_json(data, "commits/3")
    assert str(caught.value).startswith("commits/3 is not valid JSON")
    assert "\n" not in str(caught.value)


def test_a_document_is_read_with_its_types() -> None:
    found = read_document(Example, b'{"rows": 3, "name": "x", "newer": []}', "root")
    assert (found.rows, found.name) == (3, "x")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"rows": "3"}', "rows: input should be a valid integer, got '3'"),
        (b'{"rows": true}', "rows: input should be a valid integer, got True"),
        (b'{"name": "x"}', "rows is missing"),
        (b"[]", "the document: "),
        (b'{"rows": 1, "name": "\\ud800"}', "root"),
    ],
)
def test_a_document_of_other_types_is_one_line(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        read_document(Example, data, "root")
    assert "\n" not in str(caught.value)
