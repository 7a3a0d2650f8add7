"""A sweep's members: combinations, sweep.toml, names, and the summary."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scopeworks.train.sweeps import training
from scopeworks.train.sweeps.sweep import expand

BASE = {"store": "s", "site": "resid_post.1", "width": 64}


def test_lists_combine_and_penalties_are_alternatives():
    lists = {"sparsity": [1e-3, 2e-3], "target_l0": [20.0], "width": [64, 128]}
    members = expand(Path("o"), lists=lists, store="s", site="resid_post.1")
    found = [(m.width, m.target_l0 or m.sparsity) for m in members]
    assert sorted(found) == sorted((w, p) for w in (64, 128) for p in (1e-3, 2e-3, 20.0))
    names = {m.out.name for m in members}
    assert len(names) == 6
    assert {"sparsity_0.001-width_64", "target_l0_20-width_128"} <= names


def test_one_member_is_named_by_its_penalty():
    (member,) = expand(Path("o"), lists={"sparsity": [6e-4]}, **BASE)
    assert member.out == Path("o/sparsity_0.0006")


def test_a_list_without_a_value_is_refused():
    for name in ("sparsity", "width"):
        with pytest.raises(ValueError, match=f"^{name} must have at least one value, got an empty"):
            expand(Path("o"), lists={name: []}, **BASE)


def test_lists_of_any_library_give_members(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "sweep", lambda members, *_more: members)
    given = BASE | {"width": np.array([64, 128]), "sparsity": (x for x in (1e-3, 2e-3))}
    members: Any = training.train_sweep(tmp_path, **given)
    assert [(one.width, one.sparsity) for one in members] == [
        *((64, 1e-3), (128, 1e-3), (64, 2e-3), (128, 2e-3)),
    ]
    assert len({one.out.name for one in members}) == 4


def test_toml_gives_members_and_flags_win(tmp_path: Path):
    config = tmp_path / "sweep.toml"
    config.write_text(
        'store = "s"\nsite = "resid_post.1"\nwidth = 64\nlr = 1e-3\ncheckpoints = "memory://c"\n'
        '[[member]]\nsparsity = 1e-3\n[[member]]\nname = "wide"\ntarget_l0 = 30\nwidth = 128\n'
    )
    first, second = expand(tmp_path / "o", config, lr=5e-4)
    assert (first.sparsity, first.width, first.lr) == (1e-3, 64, 5e-4)
    assert (second.target_l0, second.width, second.lr) == (30, 128, 5e-4)
    assert second.out == tmp_path / "o/wide"
    assert second.checkpoints == "memory://c/wide"
    assert first.checkpoints != second.checkpoints


def test_folder_may_stand_in_the_file_and_the_flag_wins(tmp_path: Path):
    config = tmp_path / "sweep.toml"
    config.write_text('out = "there"\nstore = "s"\nsite = "resid_post.1"\nwidth = 8\n')
    assert expand(None, config)[0].out.parent == Path("there")
    assert expand(tmp_path, config)[0].out.parent == tmp_path
    config.write_text("width = 8\n")
    with pytest.raises(ValueError, match=r"out must be given \(as --out or in the config file\)"):
        expand(None, config)


def test_members_in_two_places_are_refused(tmp_path: Path):
    config = tmp_path / "sweep.toml"
    config.write_text("[[member]]\nsparsity = 1e-3\n")
    with pytest.raises(ValueError, match="members must come from one place"):
        expand(tmp_path, config, lists={"sparsity": [1e-3]}, **BASE)


def test_misspelt_setting_of_a_member_is_named(tmp_path: Path):
    config = tmp_path / "sweep.toml"
    config.write_text("[[member]]\nsparsty = 1e-3\n")
    with pytest.raises(ValueError, match="unknown setting 'sparsty'; did you mean 'sparsity'"):
        expand(tmp_path, config, **BASE)


def test_folder_of_a_single_member_is_refused(tmp_path: Path):
    config = tmp_path / "sweep.toml"
    config.write_text('[[member]]\nsparsity = 1e-3\nout = "elsewhere"\n')
    with pytest.raises(ValueError, match=r"a \[\[member\]\] of .* must have a name, not an out"):
        expand(tmp_path, config, **BASE)
