"""Names: our sites, other projects' hooks, and the folders of releases."""

import re
from pathlib import Path

from .....harvest.model.families import FAMILIES

# An SAE's files do not tell its model's family: where two have a kind, the first one names it.
HOOKS = {
    kind: (place.lens, place.hugging_face)
    for family in reversed(FAMILIES)
    for kind, place in family.sites.items()
}
"""By kind of site: TransformerLens's hook and Hugging Face's module path, `{}` for the layer."""


def hook_names(site: str | None) -> tuple[str | None, str | None]:
    """(TransformerLens hook, Hugging Face module path) of a site; Nones for an unknown one."""
    kind, _, layer = (site or "").partition(".")
    lens, hugging_face = HOOKS.get(kind, (None, None))
    return lens and lens.format(layer), hugging_face and hugging_face.format(layer)


def site_of_hook(hook: str | None) -> str | None:
    """The site that a TransformerLens or Hugging Face hook name stands for, if any.

    A module's path alone is its output (`model.layers.3` is `resid_post.3`), as SAELens hooks it;
    models with images have `language_model` in the path.
    """
    hook = hook or ""
    for family in FAMILIES:
        hook = family.as_loaded(hook)
    for kind, patterns in HOOKS.items():
        for pattern in filter(None, patterns):
            for spelling in {pattern, pattern.removesuffix(".output")}:
                wanted = re.escape(spelling).replace(r"\{\}", r"(0|[1-9][0-9]{0,5})")
                if match := re.fullmatch(wanted, hook):
                    return f"{kind}.{match[1]}"
    return None


def may_mean(hook: str, site: str) -> bool:
    """Whether a hook's name can mean this site; the name may be one that we do not know.

    TransformerLens's names are the same for all models, so an unknown one is another tensor.
    Hugging Face's paths differ between families, so of an unknown one only the layer is compared.
    """
    if (known := site_of_hook(hook)) is not None:
        return known == site
    kind, _, layer = site.partition(".")
    if hook.startswith("blocks."):  # a layer's output is the next one's input
        return kind == "resid_post" and hook == f"blocks.{int(layer) + 1}.hook_resid_pre"
    return layer_of_hook(hook) in (None, int(layer))


def layer_of_hook(hook: str | None) -> int | None:
    """The layer in a hook's name, whichever site it is."""
    match = re.search(r"\.([0-9]{1,6})(?:\.|$)", hook or "")
    return int(match[1]) if match else None


def width_name(width: int) -> str:
    """The release's name of a width: 2^14 → 16k, 2^17 → 131k, 2^20 → 1m (thousands, cut off)."""
    for unit, suffix in ((1_000_000, "m"), (1_000, "k")):
        if width >= unit:
            return f"{width // unit}{suffix}"
    return str(width)


def l0_in(path: Path) -> float | None:
    """The N of a path's innermost folder `average_l0_N`, which is the path or above it."""
    found = re.findall(r"/average_l0_(\d{1,9})(?=/)", f"{path.absolute().as_posix()}/")
    return float(found[-1]) if found else None
