"""Flags: the options of `scopeworks tokenize` and `scopeworks harvest`, one line of help each.

Owns names on the command line and help texts, which state every default (tests compare them with
`settings`). Round brackets only: square ones are markup to rich and would vanish.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

ListOfText = list[str] | None

Config = Annotated[Path | None, typer.Option(help="TOML file of settings; flags win.")]
Dask = Annotated[
    str | None,
    typer.Option(
        help="local:N, a scheduler's address, or a scheduler file (default: this process alone)."
    ),
]
StorageOption = Annotated[
    ListOfText,
    typer.Option(
        help="key=value for the file systems of all URLs, as fsspec takes it; repeat for more."
    ),
]

TokenizerModel = Annotated[
    str | None, typer.Option(help="Folder or hub id of the Gemma 2 whose tokenizer is used.")
]
Text = Annotated[
    ListOfText,
    typer.Option(
        help="File, folder, glob, URL, hf:NAME for a hub data set, or - for standard input; repeat "
        "for more."
    ),
]
MoreText = Annotated[
    ListOfText, typer.Argument(metavar="PATH", help="More text, as --text takes it.")
]
Out = Annotated[str | None, typer.Option(help="Folder or URL of the token store.")]
Context = Annotated[int | None, typer.Option(help="Tokens per sequence (default: 1024).")]
Packing = Annotated[
    str | None, typer.Option(help="concatenate, document or chat (default: concatenate).")
]
HeldOut = Annotated[
    float | None, typer.Option(help="Share of documents never trained on (default: 0.05).")
]
TokenBudget = Annotated[
    int | None, typer.Option(help="Training tokens after which reading stops (default: all text).")
]
TextField = Annotated[
    str | None, typer.Option(help="Field of a JSONL or Parquet row with its text (default: text).")
]
SubsetField = Annotated[
    str | None,
    typer.Option(help="Field with the row's subset, for evaluation by subset (default: none)."),
]
MinCharacters = Annotated[
    int | None, typer.Option(help="Shorter documents are left out and counted (default: 1).")
]
SkipBad = Annotated[
    bool | None,
    typer.Option(
        "--skip-bad", help="Count unreadable documents and go on (default: stop at the first)."
    ),
]
OrderSeed = Annotated[int | None, typer.Option(help="Seed of the sequences' order (default: 0).")]

ChatModel = Annotated[
    str | None, typer.Option(help="Folder or hub id of an instruction-tuned model.")
]
Prompts = Annotated[
    ListOfText,
    typer.Option("--text", help="Prompts, a document each, as tokenize takes text; repeat."),
]
Conversations = Annotated[int | None, typer.Option(help="Conversations (default: 1024).")]
NewTokens = Annotated[int | None, typer.Option(help="Tokens sampled at the most (default: 512).")]
ChatContext = Annotated[
    int | None, typer.Option(help="Tokens of a conversation at the most (default: 1024).")
]
Temperature = Annotated[
    float | None, typer.Option(help="What logits are divided by (default: 1.0).")
]
ChatBatch = Annotated[int | None, typer.Option(help="Conversations sampled at once (default: 64).")]
ChatDtype = Annotated[
    str | None,
    typer.Option(help="auto, bfloat16 or float32 (default: auto, what suits the device)."),
]
ChatSeed = Annotated[
    int | None, typer.Option(help="Seed of the prompts' order and of sampling (default: 0).")
]

HarvestModel = Annotated[str | None, typer.Option(help="Folder or hub id of a Gemma 2.")]
Tokens = Annotated[str | None, typer.Option(help="Folder or URL of the token store.")]
Store = Annotated[str | None, typer.Option(help="Folder or URL of the activations.")]
SiteList = Annotated[
    ListOfText,
    typer.Option(help="resid_post.12, mlp_out.0-12, attn_out.*, …; repeat for more."),
]
Rows = Annotated[
    int | None,
    typer.Option(help="Rows to harvest (default: all)."),
]
Split = Annotated[str | None, typer.Option(help="Split of the token store (default: train).")]
Codec = Annotated[str | None, typer.Option(help="exact, fast or float32 (default: exact).")]
BucketRows = Annotated[
    int | None,
    typer.Option(help="Rows shuffled and committed together (default: about 10^6)."),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="auto, bfloat16 or float32, of the model (default: auto, as the store was begun; else "
        "bfloat16 on CUDA and CPUs with units for it)."
    ),
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda, cuda:1, … (default: auto, cuda if there is).")
]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        help="Spread the layers over devices: auto, balanced, balanced_low_0 or sequential "
        "(default: one device). Needs the package accelerate."
    ),
]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile", help="Compile norms and MLPs; last bits may differ (default: do not)."
    ),
]
Attention = Annotated[
    str | None,
    typer.Option(
        help="auto, eager, flex_attention or flash_attention_2 (default: auto, as the store was "
        "begun; else eager)."
    ),
]
BatchSequences = Annotated[
    int | None,
    typer.Option(help="Sequences in one forward pass (default: as memory allows)."),
]
MemoryGib = Annotated[
    float | None, typer.Option(help="GiB for rows on their way to the store (default: 2).")
]
MaskToken = Annotated[
    list[int] | None,
    typer.Option(help="Token id whose rows are dropped beside BOS, EOS and PAD; repeat for more."),
]
Outlier = Annotated[
    float | None,
    typer.Option(help="Drop tokens with a norm over this times the median (default: keep all)."),
]
DropNonfinite = Annotated[
    bool | None,
    typer.Option(
        "--drop-nonfinite",
        help="Drop and count tokens with NaN or Inf at a site (default: stop at the first).",
    ),
]
RowSeed = Annotated[int | None, typer.Option(help="Seed of the rows' order (default: 0).")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it will take; write nothing.")]


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, by the name of their setting.

    Raises:
        ValueError: a --storage-option is not key=value.
    """
    from ..store.place.options import parse_storage_options

    found = {name: value for name, value in flags.items() if value not in (None, [])}
    if pairs := found.pop("storage_option", None):
        found["storage_options"] = parse_storage_options(pairs)
    return found
