"""A ratings' folder read again: shares over latents, who counts, the table."""

from pathlib import Path

import numpy as np
import pytest

from scopeworks.evaluate.latents.rate.answers import AnswerChange, AnswerFile
from scopeworks.evaluate.latents.rate.ratings import read_ratings, table
from scopeworks.evaluate.latents.rate.session import open_session
from scopeworks.tests.evaluate.latents.rate.cases import a_session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ada finds SAE 0's latents clear and SAE 1's not; Bob has rated the first six of his."""
    session = open_session(tmp_path, a_session(n=4))
    ada = AnswerFile(tmp_path / "ada.jsonl", session.items)
    for number, item in session.items.items():
        ada.add(AnswerChange(item=number, answer="yes" if item.sae == 0 else "no"))
    bob = AnswerFile(tmp_path / "bob.jsonl", session.items)
    for number in session.order("bob")[:6]:
        bob.add(AnswerChange(item=number, answer="maybe", flag=True))
    bob.add(AnswerChange(item=session.order("bob")[7], note="later"))
    return tmp_path


def test_shares_are_means_over_latents(folder: Path):
    ratings = read_ratings(folder)
    for sae, said in ((0, 0), (1, 2)):
        items = ratings.of_sae(sae)
        densities = [item.density for item in items]
        assert densities == sorted(densities, reverse=True) and len(items) == 4
        answered = [number for number, entry in ratings.raters["bob"].items() if entry.answer]
        both = [item.id in answered for item in items]
        expected = np.zeros((4, 3))
        expected[:, said] = [0.5 if shared else 1.0 for shared in both]
        expected[:, 1] = [0.5 if shared else 0.0 for shared in both]
        np.testing.assert_allclose(ratings.shares(items), expected)


def test_table_says_shares_raters_and_agreement(folder: Path):
    lines = table(read_ratings(folder))
    assert lines[0].split() == ["SAE", "site", "latents", "answers", "YES", "MAYBE", "NO", "flags"]
    assert lines[1].startswith("resid_post.3-secret  resid_post.3  4 ")
    assert "rated by: ada 8 of 8, bob 6 of 8" in lines
    assert "on 6 latents that two raters or more have answered" in lines[-1]


def test_table_of_nobody(tmp_path: Path):
    open_session(tmp_path, a_session(n=4))
    lines = table(read_ratings(tmp_path))
    assert lines[1].split()[2:] == ["0", "0", "–", "–", "–", "0"]
    assert "rated by: nobody yet" in lines
    assert "alpha (ordinal) not defined, on 0 latents" in lines[-1]


def test_damage_names_the_file(folder: Path):
    with (folder / "bob.jsonl").open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(ValueError, match=r"bob\.jsonl line 8 is not valid JSON"):
        read_ratings(folder)
