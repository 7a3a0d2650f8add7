"""The figures of a release: the frontier of its SAEs, as SVG and PNG.

Owns the list of figures; `evaluate.page.plots` draws them.
"""

from collections.abc import Sequence
from typing import Any

from .members import ReleaseMember

_METRICS = {"delta_loss": "Δ loss, nats per token", "fvu": "FVU"}
FOLDER = "figures"


def figures_of(members: Sequence[ReleaseMember]) -> dict[str, bytes]:
    """Name in the release -> file, an SVG and a PNG of each figure."""
    from ...evaluate.page.plots import frontier_plot
    from ...evaluate.page.svg import picture

    entries = [_entry(member) for member in members]
    files = {}
    for metric, title in _METRICS.items():
        plot = frontier_plot(entries, metric, title)
        if plot is not None:
            files[f"{FOLDER}/frontier_{metric}.svg"] = picture(plot, "svg")
            files[f"{FOLDER}/frontier_{metric}.png"] = picture(plot, "png")
    return files


def _entry(member: ReleaseMember) -> dict[str, Any]:
    """The member as a plot takes it; without an evaluation, with the figures of its training."""
    config = member.config
    if member.figures is not None:
        return member.figures
    return {
        "name": member.id,
        "site": config.site,
        "target_site": config.target_site or config.site,
        "d_sae": config.d_sae,
        "config": config.model_dump(mode="json"),
        "l0": config.l0,
        "fvu": config.fvu,
        "delta_loss": None,
    }
