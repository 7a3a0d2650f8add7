"""Numbers and frames of an index's records."""

import json
import zlib
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopeworks.evaluate.latents.files.records import (
    frame,
    framed,
    json_text,
    number,
    offsets,
    rounded,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_rounding_keeps_six_digits(values: list[float]):
    found = rounded(np.array(values, np.float32))
    for before, after in zip(values, found, strict=True):
        assert after == pytest.approx(before, rel=5.1e-6, abs=0)
        if 1e-16 < abs(before) < 1e22:
            assert len(Decimal(repr(after)).normalize().as_tuple().digits) <= 6
        assert number(before) == pytest.approx(before, rel=5.1e-6, abs=0)


def test_rounded_numbers_are_short():
    values = np.array([1 / 3, 123.4567, 1e-3 / 7, 0, -2.5], np.float32)
    assert json.dumps(rounded(values)) == "[0.333333, 123.457, 0.000142857, 0.0, -2.5]"
    assert rounded(np.array(2 / 3), 4) == 0.6667


def test_offsets_lead_to_the_frames():
    records = [{"a": "é</b>"}, {"b": [1, 2.5]}, {}]
    ends: list[int] = []
    whole = b"".join(framed(iter(records), ends))
    starts = offsets(ends)
    parts = [whole[a:b] for a, b in pairwise(starts.tolist())]
    assert [json.loads(zlib.decompress(part[4:])) for part in parts] == records
    assert parts == [frame(json_text(record)) for record in records]


def test_no_record_holds_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"a": float("nan")})
