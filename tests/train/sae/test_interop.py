"""What the programs of others make of our exports: features and reconstructions as in training.

The SAEs are random parameters in training's scaled units, folded as training folds them; what is
compared with is that forward pass in float64. SAELens is the real one, and only its download is
replaced; circuit-tracer's few lines are written out again.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from scopeworks.tests.train.run.test_fold import random_parameters, scaled_forward
from scopeworks.train.run.fold import fold
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.export import export_sae
from scopeworks.train.sae.sae import SAE

D_IN, D_SAE, HEADS = 24, 4096, 4  # a width that the Gemma Scope loaders know
C, C_TARGET = 30.0, 11.0
SAES = ["resid_post.5", "mlp_out.5", "attn_out.5"]
TRANSCODERS = ["transcoder_in.5", "mlp_in.5"]


@pytest.fixture(scope="module")
def sae_lens() -> Any:
    """The real SAELens; its imports warn about things that are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("sae_lens", reason="needs the extra `interop`")


class Case:
    """An exported SAE, some raw rows, and what training computes of them."""

    def __init__(self, tmp_path: Path, site: str, format: str, skip: bool = False):
        target = f"mlp_out.{site.partition('.')[2]}" if site in TRANSCODERS else None
        scale = C if target is None else C_TARGET
        parameters = random_parameters(D_IN, D_SAE, D_IN, skip)
        generator = torch.Generator().manual_seed(1)
        self.x = C * torch.randn(16, D_IN, generator=generator)
        f, x_hat = scaled_forward(parameters, self.x.double() / C, pre_bias=target is None)
        self.f, self.x_hat = scale * f, scale * x_hat
        config = SAEConfig(
            d_in=D_IN,
            d_sae=D_SAE,
            d_out=D_IN,
            site=site,
            target_site=target,
            model="gemma-2-2b",
            context=1024,
            l0=71.4,
        )
        SAE(config, **fold(parameters, C, scale, target is None)).save(tmp_path / "trained")
        self.root = tmp_path / "out"
        self.folder = export_sae(tmp_path / "trained", format, self.root)
        self.name = self.folder.relative_to(self.root).as_posix()

    def check(self, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]) -> None:
        """Both agree to 1e-5 of their scale."""
        with torch.no_grad():
            f = encode(self.x)
            pairs = ((f, self.f), (decode(f), self.x_hat))
        for found, wanted in pairs:
            worst = float((found.reshape(wanted.shape).double() - wanted).abs().max())
            assert worst <= 1e-5 * float(wanted.abs().max())
        assert 0.05 < (self.f > 0).double().mean() < 0.95


def check_lens(case: Case, theirs: Any) -> None:
    """A SAELens SAE: attention comes with its heads apart, and a skip needs the whole pass."""
    heads = theirs.cfg.reshape_activations == "hook_z"

    def shaped(x: Tensor) -> Tensor:
        return x.unflatten(-1, (HEADS, -1)) if heads else x

    skips = theirs.cfg.architecture().endswith("skip_transcoder")
    case.check(
        lambda x: theirs.encode(shaped(x)),
        (lambda _f: theirs(case.x)) if skips else theirs.decode,
    )


@pytest.mark.parametrize(
    ("site", "skip"),
    [(site, False) for site in SAES + TRANSCODERS] + [(site, True) for site in TRANSCODERS],
)
def test_sae_lens_loads_our_folder(tmp_path: Path, sae_lens: Any, site: str, skip: bool):
    case = Case(tmp_path, site, "sae-lens", skip)
    theirs = sae_lens.SAE.load_from_disk(case.folder)
    check_lens(case, theirs)
    assert (theirs.cfg.metadata.model_name, theirs.cfg.metadata.context_size) == (
        "gemma-2-2b",
        1024,
    )
    again, trained = SAE.load(case.folder), SAE.load(tmp_path / "trained")
    assert torch.equal(again(case.x), trained(case.x))
    names = ("site", "target_site", "model")
    assert all(getattr(again.config, name) == getattr(trained.config, name) for name in names)


HOOKS = {
    "resid_post.5": "blocks.5.hook_resid_post",
    "mlp_out.5": "blocks.5.hook_mlp_out",
    "attn_out.5": "blocks.5.attn.hook_z",
    "transcoder_in.5": "blocks.5.ln2.hook_normalized",
}


def from_disk(loaders: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets SAELens's hub loaders read `root` where they would download."""

    def download(repo_id: str, filename: str, subfolder: str | None = None, **_: Any) -> str:
        del repo_id
        path = root / (subfolder or "") / filename
        assert path.is_file(), path
        return str(path)

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        del repo_id
        return {name: list(t.shape) for name, t in load_file(root / filename).items()}

    monkeypatch.setattr(loaders, "hf_hub_download", download)
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", shapes)


def pretrained(
    sae_lens: Any, case: Case, loader: str, repository: str, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """`SAE.from_pretrained` through one of SAELens's loaders, which know Gemma's widths alone."""
    from sae_lens.loading import pretrained_sae_loaders as loaders

    from_disk(loaders, case.root, monkeypatch)
    widths = {"d_in": D_IN} | ({"d_out": D_IN} if "transcoder" in loader else {})

    def converter(cfg_overrides: dict[str, Any], **options: Any) -> Any:
        return getattr(loaders, loader)(cfg_overrides=cfg_overrides | widths, **options)

    return sae_lens.SAE.from_pretrained(repository, case.name, converter=converter)


@pytest.mark.parametrize(
    ("site", "release"),
    [
        ("resid_post.5", "us/gemma-scope-2b-pt-res"),
        ("mlp_out.5", "us/gemma-scope-2b-pt-mlp"),
        ("attn_out.5", "us/gemma-scope-9b-pt-att"),
        ("transcoder_in.5", "us/gemma-scope-2b-pt-transcoders"),
    ],
)
def test_sae_lens_loads_our_params_npz_as_gemma_scopes(
    tmp_path: Path, sae_lens: Any, monkeypatch: pytest.MonkeyPatch, site: str, release: str
):
    case = Case(tmp_path, site, "gemma-scope")
    kind = "transcoder" if site in TRANSCODERS else "sae"
    loader = f"gemma_2_{kind}_huggingface_loader"
    theirs = pretrained(sae_lens, case, loader, release, monkeypatch)
    check_lens(case, theirs)
    assert theirs.cfg.metadata.hook_name == HOOKS[site]
    assert theirs.cfg.d_sae == D_SAE


@pytest.mark.parametrize(
    ("site", "skip"),
    [*((site, False) for site in SAES), ("mlp_in.5", False), ("mlp_in.5", True)],
)
def test_sae_lens_loads_our_gemma_scope_2_folder(
    tmp_path: Path, sae_lens: Any, monkeypatch: pytest.MonkeyPatch, site: str, skip: bool
):
    case = Case(tmp_path, site, "gemma-scope-2", skip)
    loader = "gemma_3_sae_huggingface_loader"
    theirs = pretrained(sae_lens, case, loader, "us/gemma-scope-2-1b-pt", monkeypatch)
    check_lens(case, theirs)
    assert theirs.cfg.d_sae == D_SAE
    record = json.loads((case.folder / "config.json").read_text())
    assert (record["width"], record["l0"], record["affine_connection"]) == (D_SAE, 71.4, skip)


def test_circuit_tracer_reads_our_transcoders(tmp_path: Path):
    """Its reading of a Gemma Scope transcoder: W_enc transposed for a linear layer, JumpReLU as
    z · 1[z > threshold], no clamp at 0."""
    case = Case(tmp_path, "transcoder_in.5", "gemma-scope")
    with np.load(case.folder / "params.npz") as data:
        arrays = {name: torch.from_numpy(data[name]) for name in data.files}
    assert set(arrays) == {"W_enc", "W_dec", "b_enc", "b_dec", "threshold"}
    W_enc = arrays["W_enc"].T.contiguous()
    assert W_enc.shape == arrays["W_dec"].shape == (D_SAE, D_IN)

    def encode(x: Tensor) -> Tensor:
        z = torch.nn.functional.linear(x, W_enc, arrays["b_enc"])
        return z * (z > arrays["threshold"])

    case.check(encode, lambda f: f @ arrays["W_dec"] + arrays["b_dec"])
