"""What `scopeworks evaluate` takes on the command line: type and help of every flag.

A flag that is not given is None and leaves the setting to the config file or its default.
"""

from pathlib import Path
from typing import Annotated

import typer

from ..harvest.flags import given

__all__ = ["given"]

SAEs = Annotated[
    list[str] | None,
    typer.Option(
        help="Trained folder, params.npz, SAELens folder, URL or hf://USER/REPOSITORY/FOLDER; "
        "repeat for more SAEs."
    ),
]
Model = Annotated[str | None, typer.Option(help="Language model: folder or hub id.")]
OtherModel = Annotated[
    bool | None,
    typer.Option("--other-model", help="Measure SAEs on a model they were not trained on."),
]
NormsOf = Annotated[
    str | None,
    typer.Option(help="Model to whose norms the activations are scaled before an SAE reads them."),
]
Positions = Annotated[
    str | None,
    typer.Option(help="Positions that count: all, or of conversations prompt or rollout."),
]
Tokens = Annotated[str | None, typer.Option(help="URL of the token store.")]
Out = Annotated[Path | None, typer.Option(help="JSON file to write.")]
Config = Annotated[Path | None, typer.Option(help="TOML file of settings; flags win.")]
Site = Annotated[str | None, typer.Option(help="Site of SAEs whose files do not tell it.")]
TargetSite = Annotated[
    str | None, typer.Option(help="Target site of transcoders whose files do not tell it.")
]
Sequences = Annotated[int | None, typer.Option(help="Held-out sequences to use; 2048 by default.")]
Batch = Annotated[int | None, typer.Option(help="Sequences per forward pass.")]
Dask = Annotated[
    str | None,
    typer.Option(
        help="local:N, a scheduler's address, or a scheduler file: SAEs are spread over its "
        "workers; by default this process does all."
    ),
]
SpliceSpecial = Annotated[
    bool | None,
    typer.Option("--splice-special/--keep-special", help="Splice BOS, EOS and PAD too."),
]
Seed = Annotated[
    int | None,
    typer.Option(help="Seed of the choice of shown latents and of the positions of --importance."),
]
Dtype = Annotated[
    str | None,
    typer.Option(help="Precision of the model: auto (the harvest's), bfloat16 or float32."),
]
SAEDtype = Annotated[str | None, typer.Option(help="Precision of the SAE: float32 or bfloat16.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
FiringSequences = Annotated[
    int | None, typer.Option(help="Sequences behind firing frequencies, if more.")
]
Subsets = Annotated[
    bool | None, typer.Option("--subsets", help="Measure each subset of the text as well.")
]
Importance = Annotated[
    bool | None,
    typer.Option("--importance", help="Measure how evenly latents share in predictions."),
]
TopLatents = Annotated[
    int | None, typer.Option(help="Latents per SAE shown with their top snippets; 0: none.")
]
StorageOption = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        help="key=value for the driver of remote tokens and SAEs; repeat for more.",
    ),
]
