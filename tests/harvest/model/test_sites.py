"""Site names, widths and patterns."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopeworks.harvest.model.families import FAMILIES
from scopeworks.harvest.model.sites import (
    KINDS,
    Site,
    expand_sites,
    parse_site,
    site_width,
    sites_in,
)
from scopeworks.tests.reference.gemma_models import build_model

sites = st.builds(Site, st.sampled_from(KINDS), st.integers(0, 200))


@given(sites)
def test_parse_site_reads_back_what_a_site_prints(site: Site):
    assert parse_site(str(site)) == site


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["resid_post.*"], ["resid_post.0", "resid_post.1", "resid_post.2"]),
        (["mlp_out.0-1", "mlp_out.1"], ["mlp_out.0", "mlp_out.1"]),
        (["resid_post.2", "attn_out.2", "mlp_out.0,2"], None),
        (["*.1"], ["attn_out.1", "transcoder_in.1", "mlp_out.1", "resid_post.1"]),
    ],
)
def test_expand_sites_gives_each_site_once_in_the_order_of_the_forward(patterns, expected):
    expected = expected or ["mlp_out.0", "attn_out.2", "mlp_out.2", "resid_post.2"]
    assert [str(site) for site in expand_sites(patterns, 3)] == expected


@given(st.lists(sites.filter(lambda site: site.layer < 26), min_size=1))
def test_expand_sites_of_plain_names_is_the_set_of_them(wanted: list[Site]):
    assert set(expand_sites(map(str, wanted), 26)) == set(wanted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resid_pots.2", r"did you mean 'resid_post'\? the kinds are attn_out, transcoder_in"),
        ("resid_post.3", r"the model has 3 layers; choose resid_post\.0 to resid_post\.2"),
        ("resid_post.0-99999999999", r"site resid_post\.3 does not exist: the model has 3 layers"),
        ("resid_post.2-1", "got 'resid_post.2-1'"),
        ("resid_post.-1", "must be <kind>.<layers>"),
        ("resid_post", "must be <kind>.<layers>"),
        ("", "does not exist"),
    ],
)
def test_expand_sites_refuses_what_does_not_exist_and_names_what_does(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        expand_sites([text], 3)


def test_expand_sites_answers_at_once_whatever_is_asked_for():
    assert len(expand_sites(["*.*"] * 10**5, 3)) == 12
    for pattern in ("resid_post.0-" + "9" * 9, "resid_post." + "9" * 5000, "x" * 10**6 + ".1"):
        with pytest.raises(ValueError, match="site") as raised:
            expand_sites([pattern], 3)
        assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("kind", "layer", "message"),
    [
        ("mlp", 1, r"site 'mlp\.1' does not exist; .*the kinds are attn_out, "),
        (3, 1, r"site '3\.1' does not exist; the kinds are attn_out, "),
        ("mlp_out", -1, r"whole number from 0 on, got '-1'; for example Site\('mlp_out', 12\)"),
        ("mlp_out", "1", "whole number from 0 on, got '1'"),
        ("mlp_out", True, "whole number from 0 on, got 'True'"),
    ],
)
def test_site_made_in_python_is_one_that_can_exist(kind, layer, message: str):
    with pytest.raises(ValueError, match=message):
        Site(kind, layer)


def test_expand_sites_refuses_an_empty_list():
    with pytest.raises(ValueError, match="at least once"):
        expand_sites([], 3)


@pytest.mark.parametrize("text", ["resid_post.*", "resid_post", "mlp.3", "mlp_out.x"])
def test_parse_site_refuses_what_is_not_one_site(text: str):
    with pytest.raises(ValueError, match="site"):
        parse_site(text)


def test_site_width_of_attention_is_heads_times_head_dim():
    config = build_model("odd_heads").config
    assert [site_width(Site(kind, 0), config) for kind in KINDS] == [60, 36, 36, 36, 36]


def test_site_is_its_name(site: str = "resid_post.12"):
    assert Site("resid_post", 12) == Site(site) == site
    assert {site: 1}[Site("resid_post", 12)] == 1
    assert json.dumps([Site(site)]) == '["resid_post.12"]'
    again = pickle.loads(pickle.dumps(Site(site)))
    assert (type(again), again.kind, again.layer) == (Site, "resid_post", 12)
    assert repr(Site(site)) == "Site('resid_post', 12)"
    family = FAMILIES[0]
    assert sites_in(site, 4, family) == sites_in([Site(site)], 4, family) == [Site(site)]
    assert sites_in(["mlp_out.2-3", "resid_post.0", "mlp_out.3"], 4, family) == [
        *("mlp_out.2", "mlp_out.3", "resid_post.0"),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("resid_pst", 3), r"'resid_pst\.3' does not exist; did you mean 'resid_post'\?"),
        (("resid_post", -1), "layer of a site must be a whole number from 0 on, got '-1'"),
        (("resid_post", 1.0), "layer of a site must be a whole number from 0 on, got '1.0'"),
        ((12,), "must be <kind>.<layer>, got '12'; for example resid_post.12"),
        (("resid_post",), "must be <kind>.<layer>, got 'resid_post'"),
    ],
)
def test_site_that_cannot_be_is_refused(given, message: str):
    with pytest.raises(ValueError, match=message):
        Site(*given)
