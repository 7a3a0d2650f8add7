"""The path from an SAE's decoder to the residual stream: direct, through weights, or not linear.

Owns the matrices and gains on the path. The model's family says which modules it passes
(`SiteModule.to_stream`).
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ....harvest.model.sites import check_site, parse_site, site_width
from ....train.sae.config import SAEConfig
from .readout import Readout


@dataclass(frozen=True)
class ResidualPath:
    """The path from a site to the residual stream."""

    says: str
    """The path in words, from a decoder row to the logits; or why there is none."""
    exists: bool
    """Whether there is a linear path."""
    steps: tuple[Float[Tensor, "..."], ...] = ()
    """Matrices [d_out, d_in] and gains [d], in the order in which they apply."""

    def __call__(self, rows: Float[Tensor, "n d_out"]) -> Float[Tensor, "n d_model"]:
        """What rows at the site add to the residual stream; norms' scales are left out."""
        for step in self.steps:
            rows = rows @ step.T if step.ndim == 2 else rows * step
        return rows


def stream_of(config: SAEConfig, readout: Readout, site: str | None = None) -> ResidualPath:
    """The path from the site that an SAE's decoder writes.

    Args:
        config: the SAE's.
        readout: the language model's.
        site: the site of the SAE; by default the one in its files. Not used for a transcoder.

    Raises:
        ValueError: the model has no such site, or one of another width.
    """
    name = config.target_site or (None if config.is_transcoder else site or config.site)
    if name is None:
        why = "the SAE's files do not say which site its decoder writes"
        return ResidualPath(f"{why}: no output tokens are listed", False)
    where = parse_site(name)
    check_site(where, readout.config.num_hidden_layers)
    if config.d_out != (width := site_width(where, readout.config)):
        raise ValueError(
            f"SAE must write {name} of model {readout.name}, {width} wide, got decoder rows of "
            f"{config.d_out} numbers; pass the SAE's own model"
        )
    modules = readout.family.place(where.kind).to_stream
    if modules is None:
        return ResidualPath(
            f"{where.kind} is read by the layer and not added to the residual stream: there is no "
            "linear way to the logits, and no output tokens are listed",
            False,
        )
    parts, steps = ["decoder row"], []
    for module in modules:
        path = f"model.layers.{where.layer}.{module}"
        weight = readout.tensors.read(f"{path}.weight")
        steps.append(weight if weight.ndim == 2 else readout.gain_of(path))
        parts.append(f"{'gain of ' * (weight.ndim == 1)}layer {where.layer}'s {module}")
    return ResidualPath(
        " → ".join([*parts, "final norm's gain", "unembedding"]), True, tuple(steps)
    )
