"""JSON documents that were damaged on purpose: in their values, or in their bytes.

Owns the changes; what reads the documents is `document_mutations`'.
"""

import json
from collections.abc import Callable
from random import Random
from typing import Any

EDGES: list[Any] = [
    None,
    True,
    False,
    "",
    "x",
    "\x00",
    "\ud800",
    "a\nb",
    "../../../etc/passwd",
    "x" * 100_000,
    0,
    1,
    -1,
    0.5,
    -0.0,
    1e-320,
    1e308,
    10**9,
    10**18,
    2**31,
    2**63,
    -(2**63),
    10**400,
    float("inf"),
    float("nan"),
    [],
    {},
    [[]],
    [0] * 1000,
    {"a": {"a": {"a": None}}},
]

Place = tuple[Any, Any]
"""A dictionary or list, and a key or index of it."""


def damaged_value(value: Any, random: Random) -> Any:
    """A copy of the document with one to four changes to its entries."""
    value = json.loads(json.dumps(value))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        random.choice(_CHANGES)(_places(value), random)
    return value


def damaged_bytes(data: bytes, random: Random) -> bytes:
    """The document with its bytes changed."""
    return random.choice(_BYTES)(data, random)


def _places(value: Any) -> list[Place]:
    """Every entry, however deep."""
    found: list[Place] = []
    left = [value]
    while left:
        inside = left.pop()
        if isinstance(inside, dict | list):
            keys = list(inside) if isinstance(inside, dict) else range(len(inside))
            found += [(inside, key) for key in keys]
            left += [inside[key] for key in keys]
    return found


def _edge(places: list[Place], random: Random) -> None:
    if places:
        inside, key = random.choice(places)
        inside[key] = json.loads(json.dumps(random.choice(EDGES)))


def _near(places: list[Place], random: Random) -> None:
    """Another number of the same size, or the same as text."""
    numbers = [(inside, key) for inside, key in places if type(inside[key]) in (int, float)]
    if numbers:
        inside, key = random.choice(numbers)
        value = inside[key]
        others = [value + 1, value - 1, -value, value * 2, str(value)[:4000]]
        inside[key] = random.choice([*others, float(value)] if abs(value) < 1e300 else others)


def _swap(places: list[Place], random: Random) -> None:
    if len(places) > 1:
        (a, i), (b, j) = random.sample(places, 2)
        if not isinstance(a[i], dict | list) and not isinstance(b[j], dict | list):
            a[i], b[j] = b[j], a[i]


def _remove(places: list[Place], random: Random) -> None:
    if places:
        inside, key = random.choice(places)
        del inside[key]


def _rename(places: list[Place], random: Random) -> None:
    named = [(inside, key) for inside, key in places if isinstance(inside, dict)]
    if named:
        inside, key = random.choice(named)
        other = random.choice((key.upper(), key + "_", "", "sae", random.choice(named)[1]))
        inside[other] = inside.pop(key)


def _add(places: list[Place], random: Random) -> None:
    if places:
        inside, _ = random.choice(places)
        value = json.loads(json.dumps(random.choice(EDGES)))
        if isinstance(inside, dict):
            inside[random.choice(("new", "metadata", "__metadata__", "a.b/c"))] = value
        else:
            inside.append(value)


def _repeat(places: list[Place], random: Random) -> None:
    lists = [(inside, key) for inside, key in places if isinstance(inside[key], list)]
    if lists:
        inside, key = random.choice(lists)
        inside[key] = inside[key] * random.choice((0, 2, 3))


_CHANGES: list[Callable[[list[Place], Random], None]] = [
    _edge,
    _edge,
    _edge,
    _near,
    _swap,
    _remove,
    _remove,
    _rename,
    _add,
    _repeat,
]


def _flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _insert(data: bytes, random: Random) -> bytes:
    """Something between two of the bytes, or in the place of a number."""
    piece = random.choice(_PIECES)
    at = random.randrange(len(data) + 1)
    digits = [i for i, c in enumerate(data) if chr(c).isdigit()]
    if digits and random.random() < 0.7:
        at = random.choice(digits)
        return data[:at] + piece + data[at + 1 :]
    return data[:at] + piece + data[at:]


def _twice(data: bytes, random: Random) -> bytes:
    """A key that is given twice: the object's first entries again."""
    end = data.find(b"{", random.randrange(len(data) or 1))
    return data[: end + 1] + data[1:].lstrip()[: random.randrange(40)] + data[end + 1 :]


def _encoded(data: bytes, random: Random) -> bytes:
    text = data.decode("utf-8", "replace")
    return random.choice((text.encode("utf-16"), text.encode("utf-32"), b"\xef\xbb\xbf" + data))


_PIECES = [
    b"Infinity",
    b"-Infinity",
    b"NaN",
    b"9" * 5000,
    b"1e999",
    b"-",
    b"[" * 100_000,
    b'{"a":' * 20_000,
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\x00",
    b"null",
    b'"',
    b",,",
    b"// no\n",
    b" " * 10_000,
]
_BYTES: list[Callable[[bytes, Random], bytes]] = [
    _flip,
    _flip,
    _cut,
    _insert,
    _insert,
    _twice,
    _encoded,
]
