"""Which latents are rated, and in which order: `session.json` in the ratings' folder.

Owns the draw, the numbers that stand for latents on the page, and each rater's order. Hashes of
seed, SAE and latent replace random numbers, so the same indexes, seed and n give the same session
on every machine.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ....foreign import Document, read_document
from ....store.place.files import write_json

SESSION_FILE = "session.json"
BLOCK = 5
"""Latents of each SAE in one block; raters finish a block before they see the next."""

Whole = Annotated[int, Field(ge=0)]


class RatedSAE(Document):
    """One SAE of a session."""

    name: str
    site: str
    target_site: str
    d_sae: int = Field(gt=0)
    l0: float | None = None
    model: str
    fingerprint: str
    index: str
    """Digest of the index's manifest file."""


class RatedLatent(Document):
    """One latent that is rated.

    Attributes:
        id: the number that stands for the latent on the page.
        sae: position of its SAE in `Session.saes`.
        latent: its number in the SAE.
    """

    id: str = Field(pattern=r"^\d{1,9}$")
    sae: Whole
    latent: Whole
    density: float = Field(gt=0, le=1)
    """Share of the index's rows in which the latent fires."""


class Session(Document):
    """The SAEs and latents that are rated in one folder.

    Attributes:
        n: latents of each SAE that were asked for.
        blocks: the latents, block by block; raters finish a block before they see the next.
    """

    format: Literal["latents-ratings"] = "latents-ratings"
    version: Literal["1.0"] = "1.0"
    seed: Whole
    n: int = Field(gt=0)
    saes: tuple[RatedSAE, ...]
    blocks: tuple[tuple[RatedLatent, ...], ...]

    @property
    def items(self) -> dict[str, RatedLatent]:
        """Number on the page -> latent."""
        return {item.id: item for block in self.blocks for item in block}

    def order(self, rater: str) -> list[str]:
        """The latents' numbers in one rater's order.

        All raters have the same blocks in the same order, so raters who stop early have rated
        mostly the same latents. Within a block each rater has another order, so that no latent
        always follows the same one.
        """
        return [
            item.id
            for block in self.blocks
            for item in sorted(block, key=lambda one: _hash(self.seed, rater, one.id))
        ]


@dataclass(frozen=True)
class Candidates:
    """An SAE whose latents can be drawn.

    Attributes:
        fired: for each latent, the number of rows in which it fires.
        rows: number of rows that the index was made from.
    """

    sae: RatedSAE
    fired: Sequence[int]
    rows: int


def draw(candidates: Sequence[Candidates], n: int, seed: int) -> Session:
    """Draws n latents of each SAE, evenly over firing frequency.

    The latents that fire are sorted by frequency and cut into n equal groups. One latent is drawn
    from each group. If fewer than n fire, all of them are taken.

    Raises:
        ValueError: two indexes are of the same SAE, or no latent of an SAE fires.
    """
    prints = [one.sae.fingerprint for one in candidates]
    if len(set(prints)) < len(prints):
        double = next(i for i, one in enumerate(prints) if one in prints[:i])
        name = candidates[double].sae.name
        raise ValueError(f"indexes must be of different SAEs, got {name} twice; leave one out")
    chosen = [_drawn(one, n, seed) for one in candidates]
    every = sorted(
        ((k, latent) for k, latents in enumerate(chosen) for latent in latents),
        key=lambda one: _hash(seed, prints[one[0]], one[1], "number"),
    )
    width = len(str(len(every)))
    numbers = {one: f"{i + 1:0{width}d}" for i, one in enumerate(every)}
    blocks = []
    for start in range(0, n, BLOCK):
        block = [
            RatedLatent(
                id=numbers[k, latent],
                sae=k,
                latent=latent,
                density=candidates[k].fired[latent] / candidates[k].rows,
            )
            for k, latents in enumerate(chosen)
            for latent in latents[start : start + BLOCK]
        ]
        if block:
            blocks.append(tuple(sorted(block, key=lambda item: item.id)))
    saes = tuple(one.sae for one in candidates)
    return Session(seed=seed, n=n, saes=saes, blocks=tuple(blocks))


def _drawn(one: Candidates, n: int, seed: int) -> list[int]:
    """The drawn latents of one SAE, in an order that does not depend on frequency."""
    alive = sorted((fired, latent) for latent, fired in enumerate(one.fired) if fired)
    if not alive:
        raise ValueError(f"index of {one.sae.name} must have latents that fire, got none")

    def key(latent: int) -> bytes:
        return _hash(seed, one.sae.fingerprint, latent)

    n = min(n, len(alive))
    edges = [len(alive) * i // n for i in range(n + 1)]
    groups = [alive[a:b] for a, b in itertools.pairwise(edges)]
    drawn = [min((latent for _, latent in group), key=key) for group in groups]
    return sorted(drawn, key=key)


def open_session(folder: Path, wanted: Session) -> Session:
    """The folder's session; writes `wanted` into the folder if it holds none.

    Raises:
        ValueError: the folder's session differs from `wanted`; the text says in what.
    """
    path = folder / SESSION_FILE
    if not path.is_file():
        write_json(path, wanted.model_dump(mode="json"))
        return wanted
    found = read_session(folder)
    for name, old, new in (
        ("n", found.n, wanted.n),
        ("seed", found.seed, wanted.seed),
        ("SAEs", [one.name for one in found.saes], [one.name for one in wanted.saes]),
        ("indexes", found.saes, wanted.saes),
    ):
        if old != new:
            detail = "" if name == "indexes" else f": {old} there, {new} asked for"
            raise ValueError(
                f"out must hold ratings of the same session, got {folder}, whose {name} differ"
                f"{'s' * (name in ('n', 'seed'))}{detail}; ask for the same, or pass another folder"
            )
    return found


def read_session(folder: Path) -> Session:
    """The session in a ratings' folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is damaged.
    """
    path = folder / SESSION_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"ratings must be a folder that `scopeworks latents rate` has made, got {folder}; make "
            f"it: scopeworks latents rate INDEX_DIR --rater NAME --out {folder}"
        )
    found = read_document(Session, path.read_bytes(), str(path))
    items = [item for block in found.blocks for item in block]
    if len(found.items) < len(items) or any(item.sae >= len(found.saes) for item in items):
        raise ValueError(f"{path} does not hold what it must: each latent once, of an SAE in it")
    return found


def _hash(*parts: object) -> bytes:
    """A digest by which latents are sorted; the same on every machine."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=16).digest()
