"""The tables of docs/train.md that are predictions are what the model of communication predicts."""

import re
from collections.abc import Iterator
from pathlib import Path

from scopeworks.train.ranks.agreement import RankMachine, UpdateShape, seconds
from scopeworks.train.ranks.traffic import LINKS, Traffic, of_row_update, slowest

PAGE = Path(__file__).parents[3] / "docs" / "train.md"
SHAPE = (1 << 14, 2304, 2304, 4096)


def rows_after(heading: str, columns: str) -> list[list[str]]:
    """The cells of the first table with these columns after a heading."""
    text = PAGE.read_text(encoding="utf-8").partition(f"### {heading}\n")[2].split("\n### ")[0]
    lines = text.partition(f"| {columns} |\n")[2].splitlines()[1:]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return cells[: next(i for i, line in enumerate(lines) if not line.startswith("|"))]


def shown(n_ranks: int, traffic: Traffic) -> list[str]:
    """A line of the tables of what is sent."""
    times = [f"{1e3 * traffic.seconds(link):.1f} ms" for link in LINKS]
    return [str(n_ranks), f"{traffic.sent_bytes / 1e6:.0f} MB", *times]


SENT = "ranks | sent | NVLink | PCIe 5.0 x16 | 100 Gb Ethernet"


def test_what_is_sent_by_latents():
    found = [shown(n, slowest(n, *SHAPE)) for n in (2, 4, 8)]
    assert rows_after("What ranks send", SENT) == found


def test_what_is_sent_by_rows():
    def most(n: int) -> Traffic:
        return of_row_update(n, *SHAPE, 60 * -(-4096 // n), value_bytes=2)

    found = [shown(n, most(n)) for n in (2, 4, 8)]
    assert rows_after("Rows instead of latents", SENT) == found


def predicted(width: int) -> Iterator[str]:
    """Milliseconds by latents and by rows for each link, the smaller one marked if it is seen."""
    update = UpdateShape(width, *SHAPE[1:], l0=60.0)
    for link in LINKS:
        two = [1e3 * s for s in seconds(8, update, RankMachine(link, "cuda", 16.0))]
        texts = [f"{ms:.1f}" for ms in two]
        if texts[0] != texts[1]:
            smaller = two.index(min(two))
            texts[smaller] = f"**{texts[smaller]}**"
        yield ", ".join(texts)


def test_what_auto_compares():
    lines = rows_after("Rows instead of latents", "width | NVLink | PCIe 5.0 x16 | 100 Gb Ethernet")
    widths = [int(re.sub(",", "", line[0])) for line in lines]
    assert len(widths) == 4
    assert [line[1:] for line in lines] == [list(predicted(width)) for width in widths]
