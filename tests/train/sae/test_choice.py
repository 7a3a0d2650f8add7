"""Which SAE an id names: canonical picks against the published table, ties, and single ones."""

import re
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import pytest

from scopeworks.train.sae.choice import choose
from scopeworks.train.sae.hub import tree


def picked(l0s: list[int]) -> str:
    """The canonical folder of a slot with these."""
    files = [f"slot/average_l0_{l0}/params.npz" for l0 in l0s]
    return choose(tree(files), "slot/canonical", "a release")


@pytest.mark.parametrize(
    ("l0s", "l0"),
    [([100], 100), ([64, 136], 64), ([99, 102], 99), ([102, 97], 102), ([7, 5000], 7)],
)
def test_canonical_is_nearest_to_100_and_a_tie_goes_to_the_sparser(l0s: list[int], l0: int):
    assert picked(l0s) == picked(l0s[::-1]) == f"slot/average_l0_{l0}"


def test_canonical_takes_whole_saes_with_an_l0_for_a_name():
    files = [
        "slot/average_l0_100/README.md",
        "slot/average_l0_99_2/params.npz",
        "slot/average_l0_7/params.npz",
    ]
    assert choose(tree(files), "slot/canonical", "r") == "slot/average_l0_7"


@pytest.mark.parametrize("sae_id", ["a/b", "a/b/", "/a/b", "a", "a/b/params.npz", None])
def test_ways_to_name_one_sae(sae_id: str | None):
    assert choose(tree(["a/b/params.npz", "README.md"]), sae_id, "r") == "a/b"


def test_release_may_be_an_sae_itself():
    assert choose(tree(["cfg.json", "sae_weights.safetensors"]), None, "r") == ""


def test_folders_are_listed_by_their_numbers():
    files = [f"layer_{layer}/x/params.npz" for layer in (10, 9, 2, 1, 0, 3, 4, 5)]
    with pytest.raises(ValueError, match=r"holds 8: layer_0/x, layer_1/x, .*layer_5/x and 2 more"):
        choose(tree(files), None, "r")


def test_canonical_picks_are_those_of_the_published_table():
    """SAELens ships the ids of Google's repositories, canonical ones with their folders."""
    spec = find_spec("sae_lens")
    if spec is None or spec.origin is None:
        pytest.skip("needs the extra `interop`")
    table = Path(spec.origin).with_name("pretrained_saes.yaml").read_text(encoding="utf-8")
    folders: dict[str, list[str]] = defaultdict(list)
    canonical: dict[tuple[str, str], str] = {}
    release = ""
    entry = re.compile(r"^(\S+):$|^  - id: (\S+)$|^    path: (\S+)$", re.MULTILINE)
    sae_id = ""
    for match in entry.finditer(table):
        release, sae_id = match[1] or release, match[2] or sae_id
        if not match[3] or not re.match(r"gemma-scope-\d+b-", release):
            continue
        if release.endswith("-canonical"):
            canonical[release.removesuffix("-canonical"), sae_id] = match[3]
        else:
            folders[release].append(f"{match[3]}/params.npz")
    assert len(canonical) > 400
    ours = {
        key: choose(tree(folders[key[0]]), f"{path.rpartition('/')[0]}/canonical", key[0])
        for key, path in canonical.items()
    }
    # The one other pick is a tie, 64 and 136, which the table decides the other way elsewhere.
    assert {path for key, path in canonical.items() if ours[key] != path} == {
        "layer_27/width_16k/average_l0_136"
    }
