"""What `latents explain` and `latents score` both take on the command line: type and help."""

from pathlib import Path
from typing import Annotated

import typer

Index = Annotated[Path, typer.Argument(help="Folder that `latents index` made.")]
Endpoint = Annotated[
    str | None,
    typer.Option(help="URL of an OpenAI-compatible server, as http://127.0.0.1:8000/v1."),
]
Llm = Annotated[str | None, typer.Option(help="Name of the language model at the endpoint.")]
LlmModel = Annotated[
    str | None, typer.Option(help="Instead: folder or hub id of a transformers model.")
]
KeyFrom = Annotated[
    str | None,
    typer.Option(help="Environment variable with the endpoint's key, as OPENAI_API_KEY."),
]
Parallel = Annotated[int | None, typer.Option(help="Requests at a time; 4 by default.")]
PerMinute = Annotated[
    float | None, typer.Option("--requests-per-minute", help="The endpoint's limit.")
]
Timeout = Annotated[
    float | None, typer.Option("--timeout-s", help="Seconds to wait for an answer; 120 by default.")
]
Attempts = Annotated[
    int | None, typer.Option(help="Times that a request is sent that fails; 8 by default.")
]
Tries = Annotated[
    int | None,
    typer.Option(help="Times that is asked what is answered by nonsense; 3 by default."),
]
MostTokens = Annotated[
    int | None, typer.Option(help="Tokens of an answer at most; 512 by default.")
]
Prompts = Annotated[
    Path | None, typer.Option(help="Folder of prompts that replace ours, file by file.")
]
DryRun = Annotated[
    bool | None, typer.Option("--dry-run", help="Say requests, tokens and price; ask nothing.")
]
PriceIn = Annotated[
    float | None, typer.Option(help="Dollars for a million tokens read, for --dry-run.")
]
PriceOut = Annotated[
    float | None, typer.Option(help="Dollars for a million tokens written, for --dry-run.")
]
SAE = Annotated[str | None, typer.Option(help="The SAE, if it is not where the index found it.")]
Store = Annotated[str | None, typer.Option(help="Its rows, likewise.")]
Tokens = Annotated[str | None, typer.Option(help="Its token store, likewise.")]
Model = Annotated[str | None, typer.Option(help="Its language model, likewise.")]
Config = Annotated[Path | None, typer.Option(help="TOML file of settings; flags win.")]
StorageOption = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option", help="key=value for the driver of remote stores; repeat for more."
    ),
]


def numbers(text: str | None, name: str) -> list[int] | None:
    """A list such as 3,17.

    Raises:
        ValueError: something in it is no whole number.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not (part.isascii() and part.isdigit() and len(part) < 10)]
    if wrong:
        raise ValueError(f"{name} must be numbers with commas between them, got {wrong[0]!r}")
    return [int(part) for part in parts]
