"""Cached rows whose latents are known, and an index of planted ones."""

import pytest

from scopeworks.tests.evaluate.latents import made_index
from scopeworks.tests.evaluate.latents.cached_rows import Cached, cached_rows


@pytest.fixture(scope="session")
def cached(tmp_path_factory) -> Cached:
    """160 sequences, 8 latents."""
    return cached_rows(tmp_path_factory.mktemp("cached"))


@pytest.fixture(scope="session")
def planted_index(tmp_path_factory) -> made_index.Indexed:
    """An index of the planted SAE, which no test may change."""
    return made_index.planted_index(tmp_path_factory.mktemp("planted"))
