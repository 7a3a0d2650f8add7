"""The SAEs of the settings: read, checked against the model, held while they fit memory.

Owns when weights are read: once if all of them fit; otherwise once for the checks and again for
their group.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...machine import find_device, good_dtype
from ...train.sae.config import SAEConfig
from ...train.sae.hub import is_remote, is_url
from ...train.sae.sae import SAE
from ..measure.inputs import PlacedSAE, candidate, check_model, is_open, named_sites, sites_of
from ..settings import EvaluateSettings
from .groups import GroupedSAE

if TYPE_CHECKING:
    from ...harvest.model.loading import LanguageModel

_SITES = ("site", "target_site")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class SAEs:
    """The settings' SAEs, by their place in the settings.

    Attributes:
        names: their names in the result.
        configs: of all SAEs, after `look_through`.
    """

    def __init__(self, settings: EvaluateSettings):
        self._settings, self.names = settings, short_names(settings.sae)
        self.configs: list[SAEConfig] = []
        self._n_bytes: list[int] = []
        self._kept: dict[int, SAE] = {}

    def look_through(self, most_bytes: int) -> None:
        """Reads each SAE, and keeps all in the host's memory if they fit `most_bytes`.

        Raises:
            FileNotFoundError, ValueError: naming the SAE that cannot be read, or whose sites are
                not known.
        """
        keep = True
        for i in range(len(self._settings.sae)):
            sae = self._read(i)
            self.configs.append(sae.config)
            self._n_bytes.append(sum(t.numel() * t.element_size() for t in sae.tensors().values()))
            keep = keep and sum(self._n_bytes) <= most_bytes
            self._kept = self._kept | {i: sae} if keep else {}
        self._check_sites()

    @property
    def held_bytes(self) -> int:
        """Size of the weights that are kept here."""
        return sum(self._n_bytes[i] for i in self._kept)

    def _check_sites(self) -> None:
        """The checks of sites that need no model.

        A given site is for files that do not name theirs. If all do, it must not contradict any.
        """
        for name, config in zip(self.names, self.configs, strict=True):
            needed = self._given_for(config)
            for what in _SITES:
                if not any(is_open(other, what) for other in self.configs):
                    needed[what] = getattr(self._settings, what)
            named_sites(name, config, **needed)

    def _given_for(self, config: SAEConfig) -> dict[str, str | None]:
        """The settings' sites, where the SAE's file does not name its own."""
        return {what: getattr(self._settings, what) for what in _SITES if is_open(config, what)}

    def items(self, lm: "LanguageModel") -> list[GroupedSAE]:
        """The SAEs to be grouped, each checked against the model; after `look_through`.

        Raises:
            ValueError: naming the SAE that does not fit the model.
        """
        settings, found = self._settings, []
        for i, (name, config) in enumerate(zip(self.names, self.configs, strict=True)):
            if not settings.other_model:
                check_model(name, config, lm)
            sites = sites_of(name, config, lm, **self._given_for(config))
            found.append(GroupedSAE(i, *sites, self._n_bytes[i]))
        return found

    def candidates(self, numbers: Sequence[int], lm: "LanguageModel") -> list[PlacedSAE]:
        """Some of the SAEs, ready to be measured; from then on they are no longer kept here."""
        settings = self._settings
        found, dtype = [], _DTYPES[settings.sae_dtype]
        for i in numbers:
            sae = self._kept.pop(i, None) or self._read(i)
            path, sites = sae.source or settings.sae[i], self._given_for(sae.config)
            found.append(candidate(self.names[i], sae, lm, **sites, path=path, dtype=dtype))
        return found

    def _read(self, i: int) -> SAE:
        """One SAE's weights."""
        name, options = str(self._settings.sae[i]), self._settings.storage_options
        if is_remote(name):
            return SAE.from_pretrained(name, storage_options=options if is_url(name) else None)
        return SAE.load(name)


def model_dtype(settings: EvaluateSettings, configs: list[SAEConfig]) -> str:
    """The precision to run the model in; prints a line if it is not simply the harvest's."""
    if settings.dtype != "auto":
        return settings.dtype
    known = {config.model_dtype for config in configs} - {None}
    if len(known) == 1:
        return str(known.pop())
    why = "the SAEs come from harvests in both" if known else "the SAEs do not record a precision"
    taken = good_dtype(find_device(settings.device).type)
    print(f"the model is run in {taken}: {why}; --dtype takes another", file=sys.stderr)
    return taken


def short_names(paths: Sequence[str | Path]) -> list[str]:
    """The shortest ends of the paths or URLs that still differ from each other."""
    parts = [
        str(path).split("/") if is_remote(str(path)) else Path(path).absolute().parts
        for path in paths
    ]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-n:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
