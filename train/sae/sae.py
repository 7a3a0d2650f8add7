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

from ...arguments import dtype_name, path_of
from ...machine import find_device
from ...store.place.location import StorageOptions
from .config import MEASURED, SAEConfig
from .files import check_tensors, check_values, checksum, local_folder, write_format
from .formats import trained
from .formats.table import read_sae, sae_stamp
from .hub import fetched, is_remote

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
    _stamp: Any = field(default=None, init=False)
    """`sae_stamp` of the files at `path` then."""

    def __post_init__(self) -> None:
        """Refuses tensors that do not fit the config."""
        if not isinstance(self.config, SAEConfig):
            got = type(self.config).__name__
            raise ValueError(f"config must be an SAEConfig, got {got}; SAE.load reads an SAE")
        check_tensors(self.tensors(), self.config)

    def as_setting(self) -> str:
        """The SAE's address, as settings record it.

        Raises:
            ValueError: it was neither loaded nor saved, or it or its files have changed since.
        """
        place = self.path or self.source
        if self._saved is None or self._saved[0] != self.config or self.changed():
            place = None
        if place is None:
            raise ValueError("sae must be saved to be named in settings; call sae.save(folder)")
        if self.path is not None and sae_stamp(Path(self.path)) != self._stamp:
            raise ValueError(
                f"sae must be the one in {self.path}, whose files were written again or removed "
                "since; load it again, or call sae.save(folder) with another folder"
            )
        return place

    def changed(self) -> bool:
        """Whether the tensors are others than were loaded or saved, by a checksum of all numbers;
        False for an SAE that was neither."""
        return self._saved is not None and self._saved[1] != checksum(self.tensors())

    def current_config(self) -> SAEConfig:
        """The config, without figures that were measured before the tensors changed, such as l0."""
        if self._saved is None or not self.changed():
            return self.config
        old = {name: getattr(self._saved[0], name) for name in MEASURED}
        stale = [name for name, value in old.items() if value == getattr(self.config, name)]
        return self.config.model_copy(update=dict.fromkeys(stale))

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
            [..., d_sae] in the SAE's dtype. A row of x with NaN has NaN features. Gradients flow
            from f to x where x needs them.

        Raises:
            ValueError: x is none of these, has another number of columns, or is on another device.
        """
        z = self.pre_activations(x)
        f = torch.where(z <= self.theta, 0, z).relu_()  # so that NaN stays, which passes no θ
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
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        *,
        copy: bool = True,
    ) -> "SAE":
        """A copy of the SAE on another device or in another dtype.

        Args:
            device: as torch names it, or auto; None for where it is.
            dtype: of torch, or its name; None for the SAE's own.
            copy: False shares the memory of tensors that are there already in this dtype.

        Raises:
            ValueError: this machine has no such device, or dtype is no floating point dtype.
        """
        where = None if device is None else find_device(device)
        kind = None if dtype is None else getattr(torch, str(dtype_name(dtype)), None)
        if dtype is not None and not (isinstance(kind, torch.dtype) and kind.is_floating_point):
            raise ValueError(f"dtype must be float32, bfloat16 or their like, got {dtype!r:.80}")
        there = {name: t.to(where, kind, copy=copy) for name, t in self.tensors().items()}
        sae = SAE(self.config, **there)
        sae.source, sae.path = self.source, self.path
        sae._saved, sae._stamp = self._saved, self._stamp
        return sae

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> "SAE":
        """Reads an SAE in any format (`formats.table`): a trained folder, a params.npz, a SAELens
        folder, a Gemma Scope 2 folder.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: what is there is no SAE this project can represent, path is no path, or this
                machine has no such device; the text says why.
        """
        place, where = path_of("path", path), find_device(device)
        found = sae_stamp(place)
        config, tensors = read_sae(place)
        sae = cls(config, **{name: t.to(where) for name, t in tensors.items()})
        sae.path, sae._saved = str(place.absolute()), (config, checksum(tensors))
        sae._stamp = found
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
                if is_remote(found.source):
                    sae.path = None  # which may be a temporary one
            except ValueError as error:
                raise ValueError(f"{found.source}: {error}{found.remedy}") from error
        sae.source = found.source
        return sae

    def save(self, out_dir: str | Path, settings: dict[str, Any] | None = None) -> None:
        """Writes sae.safetensors and, once that is on the disk, config.json.

        Figures of the config that were measured before the tensors changed are dropped, such as l0.
        A cast to another dtype changes them, too.

        Args:
            out_dir: the folder: a new or empty one, or one in which `save` wrote an SAE before.
            settings: the training run's, kept beside the SAE's own.

        Raises:
            ValueError: a number is NaN or infinite, or the folder holds something else, such as a
                training run, which could not be continued then; nothing is written.
            OSError: naming the file that cannot be written.
        """
        folder = local_folder("out_dir", out_dir)
        trained.check_folder("out_dir", folder)
        check_values(self.tensors(), f"SAE for {folder}")
        self.config = self.current_config()
        _, files = trained.files(self.config, self.tensors(), settings)
        write_format(folder, files)
        self.path, self._stamp = str(folder.absolute()), sae_stamp(folder)
        self._saved = self.config, checksum(self.tensors())
