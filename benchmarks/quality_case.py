"""The rows, the measure and the definition of a run of the quality comparison (`quality.py`).

Owns what is equal for all trainers: the demo's model and store, the held-out rows, and how an SAE
is measured.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from demo_case import demo_case
from torch import Tensor

from scopeworks.evaluate.run import evaluate_saes
from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.harvest.rows.run import harvest_rows
from scopeworks.harvest.settings import HarvestSettings, TokenizeSettings
from scopeworks.harvest.tokens.run import tokenize_text
from scopeworks.store import ActivationStore
from scopeworks.train.sae.sae import SAE

WIDTH, BATCH, HELD_OUT_ROWS, SEQUENCES = 2048, 1024, 65_536, 64
BLOCK = 8192


@dataclass(frozen=True)
class Run:
    """One training of the comparison; equal runs are one row of the table.

    Attributes:
        peer: name in `quality_peers.PEERS`.
        lr: learning rate in the peer's own units.
        target_l0: wanted mean number of active latents.
        updates: number of updates of `BATCH` rows.
        seed: of the initial weights; the order of rows is the same for all.
        changes: settings that differ from the peer's usual ones, as (name, value).
    """

    peer: str
    lr: float
    target_l0: float
    updates: int
    seed: int = 0
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def settings(self) -> str:
        """The changes as text, for the table."""
        return "; ".join(f"{name}={value}" for name, value in self.changes)


class Case:
    """The demo's store and its held-out rows.

    Attributes:
        site: the site on whose rows SAEs are trained.
        scale: C, with E‖x/C‖² = 1 over the store.
        d: width of the site.
        device: where SAEs are trained, cpu or cuda; all are measured on the CPU.
    """

    def __init__(self, out: Path, site: str = "resid_post.3", device: str = "cpu"):
        """Makes tokens and stores in `out`, or uses existing ones."""
        demo = demo_case(out)
        self.out, self.site, self.model, self.device = out, site, demo.model, device
        self.tokens = str(out / "tokens")
        if not Path(self.tokens).exists():
            tokenize_text(
                TokenizeSettings(
                    model=self.model, text=demo.text, out=self.tokens, context=demo.context
                )
            )
        self.store = self._harvested("train", demo.rows)
        self._held_out = self._harvested("held_out", HELD_OUT_ROWS)
        store = ActivationStore.open(self.store)
        self.d, self.scale = store.sites[site], store.normaliser(site)

    def _harvested(self, split: str, rows: int) -> str:
        """The store of a split's first rows."""
        store = str(self.out / f"{split}-{self.site}")
        if Path(store).exists() and ActivationStore.open(store).rows >= rows:
            return store  # harvest would refuse to continue one from a checkout that was moved
        harvest_rows(
            HarvestSettings(
                model=self.model,
                tokens=self.tokens,
                store=store,
                site=[self.site],
                rows=rows,
                split=split,
            )
        )
        return store

    def batches(self) -> Iterator[Tensor]:
        """The endless stream of raw batches: the same rows that our own trainer reads."""
        stream = ActivationStore.open(self.store).stream(self.site, batch_rows=BATCH, seed=0)
        return (batch.to(self.device) for batch in stream)

    def held_out(self) -> Tensor:
        """Rows of sequences that no training has seen, [HELD_OUT_ROWS, d]."""
        return ActivationStore.open(self._held_out).read(self.site, 0, HELD_OUT_ROWS)

    def measured(self, sae: SAE, folder: Path) -> dict[str, float]:
        """`on_rows`, and Δ loss over held-out sequences."""
        return self.on_rows(sae) | {"delta_loss": self._delta_loss(sae, folder)}

    def on_rows(self, sae: SAE) -> dict[str, float]:
        """L0, FVU and dead share over the held-out rows."""
        x = self.held_out()
        error, fired = 0.0, torch.zeros(sae.config.d_sae, dtype=torch.int64)
        with torch.no_grad():
            for part in x.split(BLOCK):
                f = sae.encode(part)
                error += float((part - sae.decode(f)).double().square().sum())
                fired += (f > 0).sum(0)
        variance = float((x.double() - x.double().mean(0)).square().sum())
        return {
            "l0": int(fired.sum()) / len(x),
            "fvu": error / variance,
            "dead_share": float((fired == 0).double().mean()),
        }

    def _delta_loss(self, sae: SAE, folder: Path) -> float:
        """Δ loss by our own `evaluate`, of an SAE saved in our format."""
        sae.save(folder)
        result = evaluate_saes(
            EvaluateSettings(
                sae=(str(folder),),
                model=self.model,
                tokens=self.tokens,
                out=folder / "evaluation.json",
                n_sequences=SEQUENCES,
                top_latents=0,
                device="cpu",
            )
        )
        return float(result["saes"][0]["delta_loss"])
