"""The version of this package: from pyproject.toml in a checkout, otherwise as installed."""

import tomllib
from importlib import metadata
from pathlib import Path


def _version() -> str:
    """The version of the files that are imported; another copy may be installed as well."""
    checkout = Path(__file__).with_name("pyproject.toml")
    if checkout.is_file():
        return tomllib.loads(checkout.read_text(encoding="utf-8"))["project"]["version"]
    return metadata.version("scopeworks")


__version__ = _version()
