"""Cached rows whose latents are known."""

import pytest

from scopeworks.tests.evaluate.latents.cached_rows import Cached, cached_rows


@pytest.fixture(scope="session")
def cached(tmp_path_factory) -> Cached:
    """160 sequences, 8 latents."""
    return cached_rows(tmp_path_factory.mktemp("cached"))
