"""A suite of seconds: four files of text, two sites of the tiny model, three small SAEs."""

from pathlib import Path

from scopeworks.harvest.text.stdlib import stdlib_sources
from scopeworks.pipelines.suite.settings import SuiteFile

TEXT = """\
name = "small"
model = "tiny_gemma2"
out = "{out}"
{head}
[text]
sources = ["{text}"]
context = 64
held_out = 0.2
[harvest]
rows = 6_000
bucket_rows = 1024
[train]
steps = 12
batch = 256
lr = 2e-3
lr_warmup_steps = 2
sparsity_warmup_steps = 4
theta_start = 0.15
bandwidth = 0.1
checkpoint_every = 4
measure_rows = 512
[[sae]]
site = ["resid_post.1", "mlp_out.1"]
width = 32
sparsity = {sparsity}
[evaluate]
n_sequences = 4
top_latents = 2
"""


def write_text(folder: Path, n: int = 6) -> Path:
    """Some of the standard library's sources."""
    folder.mkdir(exist_ok=True)
    wanted = [path for path in stdlib_sources() if 20_000 < path.stat().st_size < 40_000][:n]
    for path in wanted:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def write_suite(
    folder: Path, out: str | Path = "", text: Path | None = None, head: str = "", **values: object
) -> Path:
    """A suite file in the folder, with its text and its outputs there."""
    path = folder / "suite.toml"
    text = text or write_text(folder / "text")
    sparsity = values.get("sparsity", [3e-3, 6e-3])
    out = out or folder / "out"
    path.write_text(TEXT.format(out=out, text=text, sparsity=sparsity, head=head), encoding="utf-8")
    return path


def suite(folder: Path, **values: object) -> SuiteFile:
    """The same, read."""
    return SuiteFile(write_suite(folder, **values))  # pyright: ignore[reportArgumentType]


def files_below(folder: Path) -> dict[str, bytes]:
    """Path below the folder -> content."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
