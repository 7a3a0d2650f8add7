"""Limits of containers, in trees of both of Linux's versions."""

from pathlib import Path

import pytest

from scopeworks import control_groups
from scopeworks.control_groups import core_quota, memory_left

UNLIMITED = "9223372036854771712"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Makes a tree of control groups: lines of /proc/self/cgroup, files below /sys/fs/cgroup."""

    def make(groups: str | None, files: dict[str, str]) -> None:
        monkeypatch.setattr(control_groups, "_GROUPS", tmp_path / "groups")
        monkeypatch.setattr(control_groups, "_ROOT", tmp_path / "root")
        if groups is not None:
            (tmp_path / "groups").write_text(groups)
        for name, text in files.items():
            path: Path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return make


def memory(folder: str, limit: str, used: int, stat: str = "") -> dict[str, str]:
    """A group's files in version 2."""
    return {
        f"{folder}memory.max": f"{limit}\n",
        f"{folder}memory.current": f"{used}\n",
        f"{folder}memory.stat": stat,
    }


def old_memory(folder: str, limit: str, used: int, stat: str = "") -> dict[str, str]:
    """A group's files in version 1."""
    return {
        f"memory/{folder}memory.limit_in_bytes": f"{limit}\n",
        f"memory/{folder}memory.usage_in_bytes": f"{used}\n",
        f"memory/{folder}memory.stat": stat,
    }


STAT = "anon 300\nfile 700\nactive_file 200\ninactive_file 100\nshmem 400\n"
OLD_STAT = "inactive_file 1\nactive_file 2\ntotal_inactive_file 100\ntotal_active_file 200\n"


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        pytest.param("0::/\n", memory("", "5000", 1000), 4000, id="a container's root"),
        pytest.param("0::/\n", memory("", "5000", 1000, STAT), 4300, id="cached files are free"),
        pytest.param("0::/\n", memory("", "max", 1000, STAT), None, id="no limit"),
        pytest.param("0::/\n", memory("", "1000", 1200), 0, id="beyond the limit"),
        pytest.param("0::/a/b\n", memory("a/b/", "5000", 1000), 4000, id="a nested group"),
        pytest.param(
            "0::/a/b\n",
            memory("a/b/", "max", 1000) | memory("a/", "3000", 2000, STAT),
            1300,
            id="the limit is further up",
        ),
        pytest.param(
            "0::/a/b\n",
            memory("a/b/", "5000", 1000) | memory("a/", "9000", 8500),
            500,
            id="others use what the group above has",
        ),
        pytest.param(
            "0::/a\n", memory("b/", "10", 0) | memory("a/", "50", 0), 50, id="not a neighbour's"
        ),
        pytest.param("0::/../x\n", memory("", "5000", 1000), 4000, id="seen from inside"),
        pytest.param(
            "4:memory:/docker/1f\n0::/\n",
            old_memory("", "5000", 1000, OLD_STAT),
            4300,
            id="version 1, the container's group is the root that it sees",
        ),
        pytest.param(
            "9:cpu,memory:/a/b\n",
            old_memory("a/b/", UNLIMITED, 700) | old_memory("a/", "1000", 900),
            100,
            id="version 1, nested",
        ),
        pytest.param(
            "4:memory:/\n0::/\n",
            old_memory("", "9000", 0) | memory("", "5000", 0),
            5000,
            id="both versions",
        ),
        pytest.param("4:memory:/gone\n", {}, None, id="no such group"),
        pytest.param("0::/\n", memory("", "nonsense", 0), None, id="nonsense"),
        pytest.param(None, memory("", "5000", 0), None, id="no control groups"),
    ],
)
def test_memory_up_to_the_nearest_limit(tree, groups, files, left):
    tree(groups, files)
    assert memory_left() == left


def test_a_group_without_statistics_counts_no_cached_files(tree):
    tree("0::/\n", {"memory.max": "5000", "memory.current": "1000"})
    assert memory_left() == 4000


def test_a_limit_that_is_none_leaves_more_than_any_machine_has(tree):
    tree("4:memory:/\n", old_memory("", UNLIMITED, 700))
    assert memory_left() == int(UNLIMITED) - 700


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
        ("0::/\n", {"cpu.max": "100 0\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 0.5),
        ("0::/a\n", {"a/cpu.max": "400000 100000", "cpu.max": "200000 100000"}, 2.0),
        (
            "3:cpu,cpuacct:/x\n",
            {"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            1.5,
        ),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("3:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_the_tightest_quota_of_processor_time(tree, groups, files, quota):
    tree(groups, files)
    assert core_quota() == quota
