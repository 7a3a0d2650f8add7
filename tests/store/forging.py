"""Stores whose documents say something else, with checksums that are right."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scopeworks.store.format.spec import checksum, group_document


def forge(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the attributes of a document in place and gives it the checksum that fits."""
    attributes = json.loads(path.read_bytes())["attributes"]["scopeworks"]
    del attributes["crc32c"]
    change(attributes)
    path.write_bytes(group_document(attributes | {"crc32c": checksum(attributes)}))
