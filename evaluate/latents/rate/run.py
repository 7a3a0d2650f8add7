"""The command `latents rate`: indexes → session → the page of one rater.

Owns the checks before the page is served.
"""

import hashlib
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ....store.place.files import check_can_be_written
from ..explorer.listening import address, check_installed, listen, serve
from ..files.manifest import NAME
from .answers import AnswerFile
from .card import card
from .server import HOSTS, application
from .session import Candidates, RatedLatent, RatedSAE, Session, draw, open_session
from .settings import RateSettings

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from ..files.folder import LatentIndex


PORT = 8780
_SHAPE = ("before", "after", "top", "bands", "per_band")
"""Settings of an index that a rater could see from its snippets."""


def rate(settings: RateSettings) -> None:
    """Serves the rating page until Ctrl-C.

    Raises:
        ValueError, OSError: an index is not finished, the folder holds another session, the
            rater's file is damaged, or the port is taken.
    """
    check_installed()
    app, session = prepare(settings)
    with _listening(settings.port) as opened:
        n, where = len(session.items), address(HOSTS[0], opened)
        n_saes = len(session.saes)
        print(f"rating {n} latents of {n_saes} SAE{'s' * (n_saes > 1)}: {where}")
        print(f"answers: {_answers_path(settings)} (Ctrl-C ends, the same command goes on)")
        sys.stdout.flush()
        serve(app, opened)


def prepare(settings: RateSettings) -> tuple["Starlette", Session]:
    """The page, ready to be served, and the session that is rated on it.

    Raises:
        ValueError, OSError: see `rate`.
    """
    from ..files.folder import open_index

    indexes = [open_index(path) for path in settings.index]
    _check_alike(indexes)
    wanted = draw([candidates(one) for one in indexes], settings.n, settings.seed)
    path = _answers_path(settings)
    check_can_be_written(path, "out")
    session = open_session(settings.out, wanted)
    items = session.items
    kept = AnswerFile(path, items)
    raised = all(
        one.page(0)["raised"] for one in indexes
    )  # some sites have none: then no card shows them

    def card_of(number: str) -> dict:
        item: RatedLatent = items[number]
        index = indexes[item.sae]
        return card(index.record(item.latent), index.page(item.latent), raised)

    return application(settings.rater, session.order(settings.rater), kept, card_of), session


def _check_alike(indexes: Sequence["LatentIndex"]) -> None:
    """Refuses indexes whose snippets would tell them apart.

    Raises:
        ValueError: the lengths or numbers of their snippets differ.
    """
    for name in _SHAPE:
        first, *others = [one.manifest.settings.get(name) for one in indexes]
        for other in others:
            if other != first:
                flag = name.replace("_", "-")
                raise ValueError(
                    f"indexes must be made with the same {name}, by which raters would tell them "
                    f"apart, got {first} and {other}; make one again: latents index --{flag}"
                )


def candidates(index: "LatentIndex") -> Candidates:
    """An index's latents, as the draw needs them."""
    manifest = index.manifest
    sae = manifest.sae
    fired = [index.page(latent)["fired"] for latent in range(sae.d_sae)]
    digest = hashlib.blake2b((index.folder / NAME).read_bytes(), digest_size=16).hexdigest()
    facts = RatedSAE(
        name=sae.name,
        site=sae.site,
        target_site=sae.target_site or sae.site,
        d_sae=sae.d_sae,
        l0=sae.l0,
        model=manifest.model,
        fingerprint=sae.fingerprint,
        index=digest,
    )
    return Candidates(facts, fired, manifest.rows)


def _listening(port: int | None) -> socket.socket:
    """A socket on the port that was asked for; by default on `PORT`, or on any free port."""
    if port is not None:
        return listen(HOSTS[0], port)
    try:
        return listen(HOSTS[0], PORT)
    except OSError:
        return listen(HOSTS[0], 0)


def _answers_path(settings: RateSettings) -> Path:
    """The rater's file."""
    return settings.out / f"{settings.rater}.jsonl"
