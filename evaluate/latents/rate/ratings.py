"""Reads a ratings' folder: all raters' answers, the table of them, and the document for a study.

A latent's shares of the answers are means over its raters, and an SAE's shares are means over its
latents. Ten raters of one latent count as one latent, so the intervals are Wilson's with n = the
number of latents. `answers` owns the files, `agreement` the coefficient.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ...study.statistics import Quantity, share_of
from .agreement import agreement
from .answers import ANSWERS, RaterAnswer, entries_of
from .session import RatedLatent, Session, read_session


@dataclass(frozen=True)
class Ratings:
    """All answers of a folder.

    Attributes:
        raters: rater's name -> latent's number -> the latest answer.
    """

    session: Session
    raters: Mapping[str, Mapping[str, RaterAnswer]]

    def counts(self, items: list[RatedLatent]) -> Int[np.ndarray, "latents 3"]:
        """How many raters gave each latent each of `ANSWERS`."""
        found = np.zeros((len(items), len(ANSWERS)), np.int64)
        for k, item in enumerate(items):
            for entries in self.raters.values():
                entry = entries.get(item.id)
                if entry is not None and entry.answer is not None:
                    found[k, ANSWERS.index(entry.answer)] += 1
        return found

    def of_sae(self, sae: int) -> list[RatedLatent]:
        """Latents of one SAE that at least one rater has answered, the densest first."""
        own = [item for item in self.session.items.values() if item.sae == sae]
        answered = self.counts(own).sum(1) > 0
        kept = [item for item, there in zip(own, answered, strict=True) if there]
        return sorted(kept, key=lambda item: (-item.density, item.latent))

    def shares(self, items: list[RatedLatent]) -> Float[np.ndarray, "latents 3"]:
        """Each latent's shares of `ANSWERS`; every latent must have at least one answer."""
        counts = self.counts(items)
        return counts / counts.sum(1, keepdims=True)


def read_ratings(folder: Path) -> Ratings:
    """All answers in a folder.

    Raises:
        FileNotFoundError: the folder holds no session.
        ValueError: a file is damaged.
    """
    session = read_session(folder)
    items = session.items
    raters = {
        path.stem: entries_of(path.read_bytes(), str(path), items)
        for path in sorted(folder.glob("*.jsonl"))
    }
    return Ratings(session, raters)


def table(ratings: Ratings) -> list[str]:
    """Lines of text: each SAE's shares of the answers with 95% intervals, then the agreement."""
    rows = [["SAE", "site", "latents", "answers", *(name.upper() for name in ANSWERS), "flags"]]
    for k, sae in enumerate(ratings.session.saes):
        items = ratings.of_sae(k)
        shares = ["–"] * len(ANSWERS)
        if items:
            shares = [_percent(share_of(one, len(items))) for one in ratings.shares(items).sum(0)]
        site = sae.site if sae.site == sae.target_site else f"{sae.site} → {sae.target_site}"
        n_answers, n_flags = ratings.counts(items).sum(), len(_flagged(ratings, k))
        rows.append([sae.name, site, f"{len(items)}", f"{n_answers}", *shares, f"{n_flags}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [*aligned, *_about(ratings)]


def _percent(one: Quantity) -> str:
    """A share with its interval."""
    assert one.low is not None and one.high is not None
    return f"{100 * one.value:.0f}% ({100 * one.low:.0f} to {100 * one.high:.0f})"


def _flagged(ratings: Ratings, sae: int) -> set[str]:
    """Numbers of an SAE's latents that at least one rater has flagged."""
    items = ratings.session.items
    return {
        number
        for entries in ratings.raters.values()
        for number, entry in entries.items()
        if entry.flag and items[number].sae == sae
    }


def _about(ratings: Ratings) -> list[str]:
    """Lines below the table: how much each rater has rated, and how far they agree."""
    items = list(ratings.session.items.values())
    done = {
        rater: sum(entry.answer is not None for entry in entries.values())
        for rater, entries in ratings.raters.items()
    }
    raters = ", ".join(f"{rater} {n} of {len(items)}" for rater, n in done.items()) or "nobody yet"
    one = agreement(ratings.counts(items))
    alpha = "not defined" if one.alpha is None else f"{one.alpha:.2f}"
    if one.low is not None and one.high is not None:
        alpha += f" ({one.low:.2f} to {one.high:.2f})"
    return [
        "shares are means over latents, with 95% intervals (Wilson's, n = latents)",
        f"rated by: {raters}",
        f"agreement: Krippendorff's alpha (ordinal) {alpha}, on {one.n} latents that two "
        "raters or more have answered",
    ]


def document(ratings: Ratings) -> dict[str, Any]:
    """The ratings as a study reads them.

    For each SAE the latents that have an answer, each with its density (share of rows in which it
    fires) and its shares of the answers; then the agreement.
    """
    saes = []
    for k, sae in enumerate(ratings.session.saes):
        items = ratings.of_sae(k)
        shares = ratings.shares(items) if items else np.zeros((0, len(ANSWERS)))
        latents = [
            {"density": item.density, "shares": row.tolist()}
            for item, row in zip(items, shares, strict=True)
        ]
        facts = sae.model_dump(include={"name", "site", "target_site", "d_sae", "l0"})
        saes.append(facts | {"latents": latents})
    one = agreement(ratings.counts(list(ratings.session.items.values())))
    n = sum(any(e.answer for e in entries.values()) for entries in ratings.raters.values())
    models = dict.fromkeys(sae.model for sae in ratings.session.saes)
    return {
        "model": {"name": ", ".join(models)},
        "text": f"latents rated by {n} {'person' if n == 1 else 'people'}",
        "saes": [],
        "ratings": {"saes": saes, "raters": n, "agreement": vars(one)},
    }
