"""The demo: the whole system on the tiny Gemma 2 that ships, from text to report.html.

Owns the demo's settings and the order of the stages; each stage is the one its own command runs.
Every stage continues what it finds, so a stopped demo goes on with the same command.
"""

from importlib.resources import files
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from ..evaluate.page.report import write_report
from ..evaluate.run import evaluate
from ..evaluate.settings import EvaluateSettings
from ..foreign import read_document
from ..harvest.rows.run import harvest
from ..harvest.settings import HarvestSettings
from ..harvest.tokens.run import TokenizeSettings, tokenize
from ..settings import Settings, differences, dump
from ..store.place.files import write_file
from ..train.sae.export import export
from ..train.settings import TrainSettings
from ..train.sweep import expand, sweep
from .corpus import stdlib_sources
from .tiny_model import HELD_OUT_SHARE

SETTINGS_FILE = "demo.json"


class DemoSettings(Settings):
    """A short run of everything: one site, several λ, one width.

    The report trains for hundreds of thousands of updates, and its θ = ε = 0.001 and lr = 7e-5
    suit that. What 1,200 updates need instead, in units where E‖x‖² = 1, stands below;
    docs/train.md ("Short runs") has the measurements behind it and what keeps latents alive.
    """

    out: Path
    """Folder for everything the demo makes."""
    model: str = str(files("scopeworks.pipelines") / "tiny_gemma2")
    """Folder or hub id of a Gemma 2; by default the one that ships."""
    text: list[str] = Field(default_factory=lambda: [str(path) for path in stdlib_sources()])
    """Files, folders or globs; by default the Python standard library's own sources."""
    context: int = Field(default=256, ge=3)
    """Tokens per sequence: BOS and two more, so that there is one to predict."""
    site: str = "resid_post.3"
    """Site to train on."""
    rows: PositiveInt = 589_824
    """Activation rows to harvest; 1,200 updates of 1,024 rows read them twice."""
    width: PositiveInt = 2048
    """Latents, 16 times the tiny model's width."""
    sparsity: tuple[PositiveFloat, ...] = Field(default=(1.5e-3, 3e-3, 6e-3, 1.2e-2), min_length=1)
    """λ of each SAE."""
    steps: PositiveInt = 1200
    """Updates of each SAE."""
    batch: PositiveInt = 1024
    """Rows per update."""
    lr: PositiveFloat = 2e-3
    """Learning rate."""
    lr_warmup_steps: int = Field(default=80, ge=0)
    """Updates of the learning rate's warm-up."""
    lr_decay_share: float = Field(default=0.2, ge=0, le=1)
    """Last share of the updates over which lr falls to 0."""
    beta2: float = Field(default=0.99, gt=0, lt=1)
    """Adam's β2: second moments follow within hundreds of updates."""
    sparsity_warmup_steps: int = Field(default=400, ge=0)
    """Updates over which λ rises."""
    theta_start: PositiveFloat = 0.15
    """θ at the start: near 1.5/√d, so that the untrained SAE does not overshoot."""
    bandwidth: PositiveFloat = 0.1
    """ε: wide, so that latents just below θ still move it."""
    evaluation_sequences: PositiveInt = 128
    """Held-out sequences to evaluate on."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of every shuffle and start."""


def run_demo(settings: DemoSettings) -> Path:
    """Tokenizes, harvests, sweeps, evaluates, exports and reports; returns the report's path.

    Raises:
        ValueError, OSError: naming what does not fit and what to do about it.
    """
    out = settings.out
    members = _members(settings)  # settings that do not fit are refused now, not after the harvest
    _claim(settings)
    tokens, store, evaluation = str(out / "tokens"), str(out / "store"), out / "evaluation.json"
    tokenize(
        TokenizeSettings(
            model=settings.model,
            text=settings.text,
            out=tokens,
            context=settings.context,
            held_out=HELD_OUT_SHARE,
            seed=settings.seed,
        )
    )
    harvest(
        HarvestSettings(
            model=settings.model,
            tokens=tokens,
            store=store,
            site=[settings.site],
            rows=settings.rows,
            seed=settings.seed,
        )
    )
    saes = sweep(members, out / "saes")
    evaluate(
        EvaluateSettings(
            sae=tuple(saes),
            model=settings.model,
            tokens=tokens,
            out=evaluation,
            n_sequences=settings.evaluation_sequences,
            seed=settings.seed,
        )
    )
    for sae in saes:
        export(sae, "gemma-scope", out / "release")
        export(sae, "sae-lens", out / "release" / "sae_lens" / sae.name)
    return write_report(out / "report.html", [evaluation])


def _members(settings: DemoSettings) -> list[TrainSettings]:
    """The SAEs to train, in the order of rising λ."""
    return expand(
        settings.out / "saes",
        lists={"sparsity": sorted(settings.sparsity)},
        store=str(settings.out / "store"),
        site=settings.site,
        width=settings.width,
        steps=settings.steps,
        batch=settings.batch,
        lr=settings.lr,
        lr_warmup_steps=settings.lr_warmup_steps,
        lr_decay_share=settings.lr_decay_share,
        beta2=settings.beta2,
        theta_start=settings.theta_start,
        bandwidth=settings.bandwidth,
        sparsity_warmup_steps=settings.sparsity_warmup_steps,
        seed=settings.seed,
        stream_seed=settings.seed,
        checkpoint_every=400,
    )


def _claim(settings: DemoSettings) -> None:
    """Writes the settings into the folder; refuses one that holds anything else.

    Raises:
        ValueError: the folder is not empty and no demo, or a demo with other settings.
    """
    record = settings.out / SETTINGS_FILE
    if settings.out.exists() and not settings.out.is_dir():
        raise ValueError(f"out must be a folder, got the file {settings.out}; choose another")
    if record.is_file():
        old = read_document(DemoSettings, record.read_bytes(), str(record))
        changed = differences(
            *(demo.model_dump(mode="json", exclude={"out"}) for demo in (old, settings))
        )
        if changed:
            raise ValueError(
                f"out must be an empty folder or a demo of the same settings, got {settings.out} "
                f"with {'; '.join(changed)}; choose another folder or remove this one"
            )
        return
    if settings.out.is_dir() and any(settings.out.iterdir()):
        raise ValueError(
            f"out must be an empty folder or a demo, got {settings.out} without {SETTINGS_FILE}; "
            "choose another folder"
        )
    settings.out.mkdir(parents=True, exist_ok=True)
    write_file(record, dump(settings).encode())
