"""The sparse autoencoder as its users see it: raw activations in, features and reconstructions out.

Owns the folded tensors and what is computed from them. `formats` and `export` own the files,
`run` trains (in scaled units).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...store.place.location import StorageOptions
from .config import SAEConfig
from .files import check_tensors, check_values, checksum, write_format
from .formats import trained
from .formats.table import read_sae
from .hub import fetched

Rows = Float[Tensor, "*batch columns"] | np.ndarray | Sequence[Any]
"""Numbers [..., columns]."""


@dataclass(eq=False, repr=False)
class SAE:
    """A JumpReLU SAE or transcoder on raw, unscaled activations (JumpReLU paper 2407.14435, eq.
    1-3).

        z = x @ W_enc + b_enc
        f = relu(z) · 1[z > θ]          (= z · 1[z > θ] wherever θ ≥ 0, as JumpReLU demands)
        x̂ = f @ W_dec + b_dec (+ x @ W_skip)

    Where the config has a k, only a row's k largest features stay: a top-k SAE. Standard and gated
    SAEs are JumpReLU SAEs of other thetas, and read as such.

    The training normaliser and the pre-encoder bias are folded in (as in Gemma Scope's release),
    so the input is neither scaled nor shifted here.
    """

    config: SAEConfig
    W_enc: Float[Tensor, "d_in d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_out"]
    b_dec: Float[Tensor, " d_out"]
    theta: Float[Tensor, " d_sae"]
    W_skip: Float[Tensor, "d_in d_out"] | None = None
    source: str | None = field(default=None, init=False)
    """Where `from_pretrained` has read it from, with the hub's commit."""
    path: str | None = field(default=None, init=False)
    """The absolute path where `load` has read it, or `save` has written it."""
    _saved: tuple[SAEConfig, int] | None = field(default=None, init=False)
    """Config and tensors' checksum of what is at `path` or `source`."""

    def __post_init__(self) -> None:
        """Refuses tensors that do not fit the config."""
        check_tensors(self.tensors(), self.config)

    def as_setting(self) -> str:
        """The SAE's address, as settings record it.

        Raises:
            ValueError: it was neither loaded nor saved, or it has changed since.
        """
        place = self.path or self.source
        if place is None or self._saved != (self.config, checksum(self.tensors())):
            raise ValueError("sae must be saved to be named in settings; call sae.save(folder)")
        return place

    def __repr__(self) -> str:
        config, shape = self.config, f"{self.config.d_in:,} → {self.config.d_sae:,}"
        if config.is_transcoder:
            shape, site = f"{shape} → {config.d_out:,}", f"{config.site} to {config.target_site}"
        else:
            site = str(config.site)
        kind = "Transcoder" if config.is_transcoder else "SAE"
        firing = "" if config.k is None else f", top {config.k}"
        l0 = "" if config.l0 is None else f", L0 {config.l0:.3g}"
        of = "" if config.model is None else f", {config.model}"
        dtype, device = str(self.W_enc.dtype).removeprefix("torch."), self.W_enc.device
        return f"{kind}({site}: {shape}{firing}{l0}{of}, {dtype} on {device})"

    def tensors(self) -> dict[str, Tensor]:
        """The tensors under their names, without an absent W_skip."""
        names = ("W_enc", "b_enc", "W_dec", "b_dec", "theta", "W_skip")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def pre_activations(self, x: Rows) -> Float[Tensor, "*batch d_sae"]:
        """z = x @ W_enc + b_enc, in the SAE's dtype; errors as `encode`."""
        what = f"raw activations at {self.config.site or 'its site'}"
        return self._given("x", x, self.config.d_in, what) @ self.W_enc + self.b_enc

    def encode(self, x: Rows) -> Float[Tensor, "*batch d_sae"]:
        """Feature activations f = z · 1[z > θ] of raw activations x. In a top-k SAE only the k
        largest of a row stay.

        Args:
            x: [..., d_in], unscaled, as the model computes them and a store reads them. A tensor is
                on the SAE's device; an array or nested lists are copied there.

        Returns:
            [..., d_sae] in the SAE's dtype. Gradients flow from f to x where x needs them.

        Raises:
            ValueError: x is none of these, has another number of columns, or is on another device.
        """
        z = self.pre_activations(x)
        f = torch.where(z > self.theta, z, 0).relu_()
        if self.config.k is None:
            return f
        largest, where = f.topk(self.config.k, dim=-1, sorted=False)
        return torch.zeros_like(f).scatter_(-1, where, largest)

    def decode(self, f: Rows, x: Rows | None = None) -> Float[Tensor, "*batch d_out"]:
        """Reconstruction x̂ of features f; a skip transcoder also needs its input x.

        Args:
            f: [..., d_sae], as `encode` gives them.
            x: [..., d_in], without effect where there is no W_skip.

        Returns:
            [..., d_out] in the SAE's dtype, unscaled.

        Raises:
            ValueError: f or x is no array or tensor of such a shape on the SAE's device, or a skip
                transcoder is given no x.
        """
        features = self._given("f", f, self.config.d_sae, "features, as encode gives them")
        x_hat = features @ self.W_dec + self.b_dec
        if self.W_skip is None:
            return x_hat
        if x is None:
            raise ValueError("x must be given to decode: this transcoder has a skip connection")
        what = f"raw activations at {self.config.site or 'its site'}"
        return x_hat + self._given("x", x, self.config.d_in, what) @ self.W_skip

    def _given(self, name: str, given: Rows, columns: int, what: str) -> Tensor:
        """An argument as a tensor of the SAE's dtype on its device, refused in one line."""
        device = self.W_enc.device
        rule = f"{name} must be a tensor or array [..., {columns}] of {what}"
        try:
            rows = given if isinstance(given, Tensor) else torch.as_tensor(given, device=device)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"{rule}, got {type(given).__name__}") from None
        if not rows.ndim or rows.shape[-1] != columns:
            raise ValueError(f"{rule}, got {list(rows.shape)}")
        if rows.device != device:
            raise ValueError(
                f"{name} must be on {device} as the SAE is, got {rows.device}; move either, "
                f"as sae.to({str(rows.device)!r})"
            )
        return rows.to(self.W_enc.dtype)

    def __call__(self, x: Rows) -> Float[Tensor, "*batch d_out"]:
        """decode(encode(x), x): x̂ [..., d_out] of raw activations x [..., d_in]; errors as
        `encode`."""
        return self.decode(self.encode(x), x)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "SAE":
        """A copy of the SAE on another device or in another dtype."""
        moved = {name: t.to(device=device, dtype=dtype) for name, t in self.tensors().items()}
        sae = SAE(self.config, **moved)
        sae.source, sae.path, sae._saved = self.source, self.path, self._saved
        return sae

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> "SAE":
        """Reads an SAE in any format (`formats.table`): a trained folder, a params.npz, a SAELens
        folder, a Gemma Scope 2 folder.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: what is there is no SAE this project can represent; the text says why.
        """
        config, tensors = read_sae(Path(path))
        sae = cls(config, **{name: t.to(device) for name, t in tensors.items()})
        sae.path, sae._saved = str(Path(path).absolute()), (config, checksum(tensors))
        return sae

    @classmethod
    def from_pretrained(
        cls,
        release: str | Path,
        sae_id: str | None = None,
        *,
        revision: str | None = None,
        device: torch.device | str = "cpu",
        storage_options: StorageOptions = None,
        force_download: bool = False,
    ) -> "SAE":
        """Reads an SAE of a release, in any format that `load` reads; only its files are fetched.

            SAE.from_pretrained("google/gemma-scope-2b-pt-res", "layer_12/width_16k/average_l0_82")

        `source` says where it came from; of a hub's it has the commit, which pins `revision`.

        Args:
            release: an id on the Hugging Face hub, or `hf://USER/REPOSITORY[@REVISION][/FOLDER]`; a
                URL of any fsspec file system; a folder. A folder goes before an id of its name.
            sae_id: folder in the release. `slot/canonical` is the SAE of a slot such as
                `layer_12/width_16k` whose L0 is nearest to 100; a folder that holds a single SAE
                stands for it. None: the release is, or holds, one SAE.
            revision: branch, tag or commit on the hub; its main branch by default.
            device: where the tensors go.
            storage_options: of a URL's file system.
            force_download: fetch from the hub again what is in the cache.

        Raises:
            OSError: nothing is there, the hub refuses it, or it cannot be reached and the cache
                does not have it.
            ValueError: the id names no SAE, or several, or what is there is none that this project
                can represent.
        """
        where = {"revision": revision, "storage_options": storage_options}
        with fetched(release, sae_id, **where, force_download=force_download) as found:
            try:
                sae = cls.load(found.path, device)
                sae.path = None  # which may be a temporary one
            except ValueError as error:
                raise ValueError(f"{found.source}: {error}{found.remedy}") from error
        sae.source = found.source
        return sae

    def save(self, out_dir: str | Path, settings: dict[str, Any] | None = None) -> None:
        """Writes sae.safetensors and, once that is on the disk, config.json.

        Args:
            out_dir: the folder.
            settings: the training run's, kept beside the SAE's own.

        Raises:
            ValueError: a number is NaN or infinite; nothing is written.
            OSError: naming the file that cannot be written.
        """
        folder = Path(out_dir)
        check_values(self.tensors(), f"SAE for {folder}")
        _, files = trained.files(self.config, self.tensors(), settings)
        write_format(folder, files)
        self.path = str(Path(out_dir).absolute())
        self._saved = self.config, checksum(self.tensors())
