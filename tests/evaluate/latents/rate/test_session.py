"""What is drawn, in which order, and when a folder's session may go on."""

import itertools
import json
from pathlib import Path

import pytest

from scopeworks.evaluate.latents.rate.session import (
    BLOCK,
    SESSION_FILE,
    Candidates,
    draw,
    open_session,
    read_session,
)
from scopeworks.tests.evaluate.latents.rate.cases import SAES, a_session, candidates


def test_draws_one_latent_of_each_group_by_frequency():
    one = candidates(0)
    session = draw([one], 8, 0)
    alive = sorted(i for i, fired in enumerate(one.fired) if fired)  # here also by frequency
    group = len(alive) // 8
    drawn = sorted(item.latent for item in session.items.values())
    assert [alive.index(latent) // group for latent in drawn] == list(range(8))
    assert all(item.density == item.latent / 1000 for item in session.items.values())


def test_takes_all_that_fire_where_they_are_fewer():
    few = Candidates(SAES[0], [0, 5, 0, 2, 1], 10)
    assert sorted(i.latent for i in draw([few], 50, 0).items.values()) == [1, 3, 4]


def test_numbers_say_nothing_of_the_sae():
    session = a_session(n=40)
    numbers = sorted(session.items)
    assert [int(number) for number in numbers] == list(range(1, 81))
    firsts = [session.items[number].sae for number in numbers]
    changes = sum(a != b for a, b in itertools.pairwise(firsts))
    assert 25 < changes < 55  # a fair coin's 79 throws change 39 times; 4.4 is its deviation


def test_another_seed_draws_others():
    assert a_session(seed=1).blocks != a_session().blocks
    assert a_session().blocks == a_session().blocks


def test_blocks_hold_as_many_of_each_sae_and_raters_share_them():
    session = a_session(n=12)
    sizes = [[sum(item.sae == k for item in block) for k in (0, 1)] for block in session.blocks]
    assert sizes == [[BLOCK, BLOCK], [BLOCK, BLOCK], [2, 2]]
    ada, bob = session.order("ada"), session.order("bob")
    assert ada != bob
    for start in (0, 2 * BLOCK, 4 * BLOCK):
        assert set(ada[start : start + 2 * BLOCK]) == set(bob[start : start + 2 * BLOCK])
    assert session.order("ada") == ada


def test_refuses_the_same_sae_twice_and_dead_ones():
    with pytest.raises(ValueError, match=r"different SAEs, got resid_post\.3-secret twice"):
        draw([candidates(0), candidates(0)], 5, 0)
    with pytest.raises(ValueError, match="must have latents that fire, got none"):
        draw([Candidates(SAES[0], [0, 0], 10)], 5, 0)


def test_session_goes_on_as_it_was_begun(tmp_path: Path):
    begun = open_session(tmp_path, a_session())
    data = (tmp_path / SESSION_FILE).read_bytes()
    assert open_session(tmp_path, a_session()) == begun
    assert (tmp_path / SESSION_FILE).read_bytes() == data


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (a_session(n=13), "whose n differs: 12 there, 13 asked for"),
        (a_session(seed=2), "whose seed differs: 0 there, 2 asked for"),
        (draw([candidates(1)], 12, 0), "whose SAEs differ: .*secret.* there"),
        (
            draw(
                [
                    Candidates(
                        SAES[0].model_copy(update={"index": "x"}), candidates(0).fired, 9**9
                    ),
                    candidates(1),
                ],
                12,
                0,
            ),
            "whose indexes differ; ask for the same, or pass another folder",
        ),
    ],
)
def test_another_session_is_refused(tmp_path: Path, other, message: str):
    open_session(tmp_path, a_session())
    with pytest.raises(ValueError, match=message):
        open_session(tmp_path, other)


def test_damaged_session_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="make it: scopeworks latents rate"):
        read_session(tmp_path)
    open_session(tmp_path, a_session())
    path = tmp_path / SESSION_FILE
    value = json.loads(path.read_text())
    value["blocks"][0][0]["sae"] = 2
    path.write_text(json.dumps(value))
    with pytest.raises(ValueError, match="each latent once, of an SAE in it"):
        read_session(tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"session\.json is not valid JSON"):
        read_session(tmp_path)
