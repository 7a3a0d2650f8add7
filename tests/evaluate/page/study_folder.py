"""A study's folder as `scopeworks study` leaves it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scopeworks.evaluate.page.svg import legend, look, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIGNS = {
    "holds": "✓ holds",
    "does not hold": "✗ does not hold",
    "cannot be told": "? cannot be told",
}


def write_study(folder: Path, **changes: Any) -> Path:
    """Writes reading and figure of a made-up study; `changes` are of the reading."""
    reading = {
        "study": folder.name,
        "figures": ["6"],
        "title": "Delta loss against width",
        "claim": "At equal L0 a wider SAE costs less.",
        "verdict": "holds",
        "sentence": "Wider is better.",
        "test": "The 95% interval of the difference leaves out 0.",
        "numbers": {"difference": [-0.0123456, -0.02, -0.004], "sites": 3, "p": 0.03125},
        "model": "tiny_gemma2",
        "text": "128 held-out sequences of 256 tokens",
        "plots": [{"name": "delta_loss", "caption": "Δ loss against width; bars are intervals."}],
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    for plot in reading["plots"]:
        (folder / f"{plot['name']}.svg").write_bytes(picture(_plot, "svg"))
    (folder / "reading.json").write_text(json.dumps(reading), encoding="utf-8")
    return folder


def _plot(axes: "Axes") -> None:
    for i in range(3):
        axes.plot([9, 10, 11], [0.3 - 0.05 * i, 0.2, 0.1 + 0.02 * i], label=f"λ {i}", **look(i))
    axes.set_xlabel("width, log₂ of the number of latents")
    axes.set_ylabel("Δ loss, nats per token")
    legend(axes)
