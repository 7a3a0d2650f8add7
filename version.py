"""The version of this package, read when it is first asked for.

Owns where it is written: pyproject.toml of a checkout, which need not be installed, else what the
package was installed with.
"""

import tomllib
from importlib import metadata
from pathlib import Path


def _version() -> str:
    """Of the files that are imported: another copy of the package may be installed as well."""
    checkout = Path(__file__).with_name("pyproject.toml")
    if checkout.is_file():
        return tomllib.loads(checkout.read_text(encoding="utf-8"))["project"]["version"]
    return metadata.version("scopeworks")


__version__ = _version()
