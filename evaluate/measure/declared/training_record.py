"""A trained folder's record of its training: the resolved settings and a thinned metrics.jsonl.

Owns the copy that goes into an evaluation's JSON, so that a report needs only that file.
"""

from pathlib import Path
from typing import Any

from ....foreign import parse_json
from ....train.sae.formats.trained import CONFIG_FILE
from ....train.sae.hub import is_remote
from ....train.saved.metrics import read_metrics

CURVES = ("loss", "fvu", "l0", "dead_share")
MAX_POINTS = 200


def read_training(name: str | None) -> dict[str, Any] | None:
    """Settings and curves of a local trained folder; None for any other SAE.

    A thinned curve keeps every k-th line and the last one, without smoothing.
    """
    if name is None or is_remote(name):
        return None
    path = Path(name)
    config = path / CONFIG_FILE
    if not config.is_file():
        return None
    record = parse_json(config.read_bytes(), str(config))
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        return None
    lines = read_metrics(path)
    every = max(1, -(-len(lines) // MAX_POINTS))
    kept = [line for i, line in enumerate(lines) if i % every == 0 or i == len(lines) - 1]
    curves = {
        name: [line[name] for line in kept]
        for name in ("step", *CURVES)
        if kept and all(name in line for line in kept)
    }
    return {"settings": record["settings"], "metrics": curves}
