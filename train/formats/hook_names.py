"""Names of sites and widths in other projects."""

import re

# kind here -> (TransformerLens hook, Hugging Face module path), formatted with the layer
HOOKS: dict[str, tuple[str | None, str | None]] = {
    "attn_out": ("blocks.{}.attn.hook_z", "model.layers.{}.self_attn.o_proj.input"),
    "mlp_out": (
        "blocks.{}.hook_mlp_out",
        "model.layers.{}.post_feedforward_layernorm.output",
    ),
    "resid_post": ("blocks.{}.hook_resid_post", "model.layers.{}.output"),
    # The gainless vector is no module's input or output in transformers; the norm's output has the
    # gain in it and is a site of its own.
    "transcoder_in": ("blocks.{}.ln2.hook_normalized", None),
    "mlp_in": (None, "model.layers.{}.pre_feedforward_layernorm.output"),
}
_OTHER_SPELLINGS = {
    "resid_post": ("model.layers.{}",),
    "mlp_out": ("model.layers.{}.post_feedforward_layernorm",),
    "mlp_in": ("model.layers.{}.pre_feedforward_layernorm",),
}
"""A module's name alone stands for its output."""


def hook_names(site: str | None) -> tuple[str | None, str | None]:
    """(TransformerLens hook, Hugging Face module path) of a site; Nones for an unknown one."""
    kind, _, layer = (site or "").partition(".")
    if kind not in HOOKS:
        return None, None
    lens, hugging_face = HOOKS[kind]
    return lens and lens.format(layer), hugging_face and hugging_face.format(layer)


def site_of_hook(hook: str | None) -> str | None:
    """The site that a TransformerLens or Hugging Face hook name stands for, if any."""
    for kind, names in HOOKS.items():
        for name in (*names, *_OTHER_SPELLINGS.get(kind, ())):
            pattern = re.escape(name or "").replace(r"\{\}", r"(\d{1,6})")
            if name and (match := re.fullmatch(pattern, hook or "")):
                return f"{kind}.{match[1]}"
    return None


def width_name(width: int) -> str:
    """The release's name of a width: 2^14 → 16k, 2^17 → 131k, 2^20 → 1m (thousands, cut off)."""
    for unit, suffix in ((1_000_000, "m"), (1_000, "k")):
        if width >= unit:
            return f"{width // unit}{suffix}"
    return str(width)
