"""Groups of SAEs: how they are cut, and that their results become one's."""

import pytest

from scopeworks.evaluate.run.groups import GroupedSAE, groups_of, joined
from scopeworks.harvest.model.sites import parse_site

SITES = ["resid_post.3", "resid_post.1", "resid_post.3", "mlp_out.2", "resid_post.1"]
ITEMS = [GroupedSAE(i, parse_site(site), parse_site(site), 10) for i, site in enumerate(SITES)]


@pytest.mark.parametrize(
    ("n", "most_bytes", "groups"),
    [
        (1, None, [(0, 1, 2, 3, 4)]),
        (2, None, [(1, 3, 4), (0, 2)]),
        (9, None, [(1,), (4,), (3,), (0,), (2,)]),
        (1, 25, [(1, 4), (0, 3), (2,)]),
        (1, 5, [(1,), (4,), (3,), (0,), (2,)]),
    ],
)
def test_groups_hold_neighbouring_sites_and_no_more_than_asked(n, most_bytes, groups):
    assert groups_of(ITEMS, n, most_bytes) == groups


def result(numbers, loss=1.0):
    sites = sorted({SITES[i] for i in numbers})
    entries = [{"name": str(i)} for i in numbers]
    subset = {"n_sequences": 3, "saes": [{"of": i} for i in numbers]}
    return {
        "clean": {"loss": loss},
        "baselines": {site: {"of": site} for site in sites},
        "saes": entries,
        "subsets": {"code": subset},
    }


def test_results_of_groups_join_to_that_of_one(capsys):
    whole = joined({group: result(group) for group in groups_of(ITEMS, 3)})
    assert [entry["name"] for entry in whole["saes"]] == ["0", "1", "2", "3", "4"]
    assert list(whole["baselines"]) == ["resid_post.1", "mlp_out.2", "resid_post.3"]
    assert whole["subsets"]["code"] == {"n_sequences": 3, "saes": [{"of": i} for i in range(5)]}
    assert capsys.readouterr().err == ""


def test_workers_that_round_differently_are_told_of(capsys):
    joined({(0,): result((0,)), (1,): result((1,), loss=1.0000001)})
    assert "from 1.0 to 1.0000001: their processors round differently" in capsys.readouterr().err
