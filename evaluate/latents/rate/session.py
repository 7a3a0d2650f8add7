"""Which latents are rated, and in which order: `session.json` in the ratings' folder.

Owns the draw, the numbers that stand for latents on the page, and each rater's order. Every choice
is made by hashes of what it is of, so that the same indexes, seed and n give the same session.
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
"""Latents of each SAE that raters see before any of the next ones."""

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
    """Digest of the index's manifest."""


class RatedLatent(Document):
    """One latent that is rated."""

    id: str = Field(pattern=r"^\d{1,9}$")
    sae: Whole
    latent: Whole
    density: float = Field(gt=0, le=1)
    """Share of the index's rows in which it fires."""


class Session(Document):
    """What a ratings' folder is about.

    Attributes:
        n: latents that were asked for of each SAE.
        blocks: latents in the order of the work; each block is done before the next.
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
        """A rater's order: the blocks are the same for all, so that raters who stop early have
        rated the same latents; within a block everyone has an order of their own, so that no
        latent is always the one that comes after another."""
        return [
            item.id
            for block in self.blocks
            for item in sorted(block, key=lambda one: _hash(self.seed, rater, one.id))
        ]


@dataclass(frozen=True)
class Candidates:
    """An SAE whose latents can be drawn.

    Attributes:
        fired: rows in which each latent fires.
        rows: that were read.
    """

    sae: RatedSAE
    fired: Sequence[int]
    rows: int


def draw(candidates: Sequence[Candidates], n: int, seed: int) -> Session:
    """Draws n latents of each SAE evenly over firing frequency: those that fire are cut into n
    equal groups by rank of frequency, and one is drawn from each.

    Raises:
        ValueError: an SAE is there twice, or none of its latents fires.
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
    """An SAE's latents, in an order that has nothing to do with frequency."""
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
    """The folder's session, begun if there is none.

    Raises:
        ValueError: the folder's session is another; the text says in what.
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
    """What orders latents: the same on every machine."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=16).digest()
