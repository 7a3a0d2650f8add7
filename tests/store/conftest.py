"""Small stores to read from."""

from pathlib import Path

import pytest

from scopeworks.tests.store.making import SITES, Made, make_store


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A store of two sites and 3 full buckets and a short one, for reading only."""
    return make_store(tmp_path_factory.mktemp("store") / "acts")


@pytest.fixture
def fresh(tmp_path: Path) -> Made:
    """The same store, to be damaged."""
    assert SITES
    return make_store(tmp_path / "acts")
