"""A model's files: where they are, and what is checked before another library opens them.

Owns the way from a name to a local folder (the hub is asked here and nowhere else), the refusal of
what is no file of a model (git-lfs pointers, pipes) or names code, and the one line that another
library's error becomes. `config` checks the configuration, `weights` the weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...foreign import one_line, parse_json
from ...hub_errors import hub_hint
from ...store.place.files import stamp
from ...store.place.place import check_length
from .families import titles

SHIPPED = ("tiny_gemma2", "tiny_gemma2_it")
"""The tiny model that comes with the package, and its instruction-tuned twin."""

_LFS = b"version https://git-lfs.github.com/spec/"
_JSON_BYTES = 2**28
"""No document of a model is larger: Gemma's tokenizer.json has 34 MB."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")
_DOCUMENTS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_OTHERS = ("tokenizer.model", "chat_template.jinja", "chat_template.json")
_ADAPTER = "adapter_config.json"
_SAFETENSORS = ("model*.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")


def model_folder(name: str, weights: bool = False) -> Path:
    """The local folder of a model's files, which are downloaded from the hub if they are not here.

    Every file that transformers reads beside the weights is checked: it must be a regular file and
    no git-lfs pointer; a `.json` file must be valid JSON and name no code.

    Args:
        name: a local folder, a hub id, or tiny_gemma2 or tiny_gemma2_it, which ship.
        weights: download the weights too.

    Raises:
        OSError: there is no such folder or hub model, or it cannot be reached.
        ValueError: a file is not what its name says.
    """
    path = Path(model_place(name))
    check_name(name)
    folder = path if path.is_dir() else _downloaded(name, weights)
    if (folder / _ADAPTER).exists():
        raise ValueError(
            f"model {name} must be a whole model, got an adapter ({_ADAPTER}); "
            "merge the adapter into its base model and save that, or remove the file"
        )
    if not (folder / "config.json").exists():
        raise FileNotFoundError(
            f"model folder {name} must hold a config.json, got none; "
            f"pass the folder of a saved {titles()}"
        )
    for file in (folder / other for other in (*_DOCUMENTS, *_OTHERS)):
        if file.is_symlink() or file.exists():
            check_file(file)
            if file.suffix == ".json":
                _refuse_code(read_json(file), file)
    return folder


def model_place(name: str) -> str:
    """The folder of a model that ships, unless a folder of that name is here; any other name as it
    is."""
    check_length(name)
    shipped = name in SHIPPED and not Path(name).exists()
    return str(files("scopeworks.pipelines") / name) if shipped else name


def model_stamp(folder: Path) -> Any:
    """The `stamp` of the files that decide what a model is: its weights, shape and tokenizer."""
    names = ("config.json", *TOKENIZER_FILES, *_SAFETENSORS, *_PICKLED)
    return stamp(sorted(file for name in names for file in folder.glob(name)))


def read_json(path: Path) -> Any:
    """A JSON document of a model.

    Raises:
        ValueError: it is no JSON, or larger than 256 MiB.
    """
    if (size := path.stat().st_size) > _JSON_BYTES:
        raise ValueError(
            f"{path} must have at most {_JSON_BYTES:,} bytes, got {size:,}; download it again"
        )
    return parse_json(path.read_bytes(), str(path))


def check_file(path: Path) -> None:
    """Refuses what is no regular file, and the pointer that git leaves where git-lfs is missing.

    Raises:
        FileNotFoundError: there is none, or a link leads nowhere.
        ValueError: it is no regular file, or a git-lfs pointer.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; download the model again")
    if not path.is_file():
        raise ValueError(f"{path} must be a regular file, got a folder, pipe or device; remove it")
    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise ValueError(
                f"{path} must be the file itself, got a git-lfs pointer to it; run `git lfs pull` "
                "in its folder, or download the model again"
            )


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turns whatever another library raises about a model's files into one line.

    Only calls of other libraries belong in the block: their errors have no common base.
    """
    try:
        yield
    except OSError as error:
        hint = f"the folder is incomplete or damaged ({one_line(error)}); download it again"
        raise OSError(f"model {name} cannot be loaded: {hint}") from error
    except Exception as error:
        # The text alone may say little: a KeyError's is the key.
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        what = " ".join(str(error).split())[:300]
        raise ValueError(f"model {name} cannot be loaded: {kind}{what}") from error


def checked_name(model: Any) -> str:
    """A folder or hub id as text; ValueError for anything that is neither text nor a path."""
    if isinstance(model, str | Path):
        return str(model)
    raise ValueError(
        f"model must be a folder or a hub id, got {type(model).__name__}; save it with its "
        "tokenizer (save_pretrained) and pass the folder"
    )


def check_name(name: str) -> None:
    """Checks that a name is a folder or may be a hub id; the hub is not asked.

    Raises:
        FileNotFoundError: there is no such folder, and the name cannot be a hub id.
        NotADirectoryError: it is a file.
    """
    path = Path(model_place(name))
    if path.is_dir():
        return
    if path.exists():
        raise NotADirectoryError(
            f"model must be a folder or a hub id, got the file {name}; pass the folder it is in"
        )
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise FileNotFoundError(
            f"model {name} does not exist; "
            f"pass a folder of a saved {titles()}, a hub id such as google/gemma-2-2b, or "
            f"{SHIPPED[0]}, which ships"
        )


def _downloaded(name: str, weights: bool) -> Path:
    """The folder of a hub model's newest files; those that are here already are kept."""
    from huggingface_hub import snapshot_download

    wanted = [*_DOCUMENTS, *_OTHERS, _ADAPTER]
    try:
        folder = snapshot_download(name, allow_patterns=wanted)
        if weights:
            folder = snapshot_download(name, allow_patterns=[*wanted, *_SAFETENSORS])
            if not any(Path(folder).glob(_SAFETENSORS[0])):
                folder = snapshot_download(name, allow_patterns=[*wanted, *_PICKLED])
    except Exception as error:  # httpx', the hub's and the disk's errors have no common base
        raise OSError(f"model {name} cannot be loaded: {hub_hint(error)}") from error
    return Path(folder)


def _refuse_code(document: Any, path: Path) -> None:
    """Raises ValueError for a document that names code: a model's own code is never run."""
    if not isinstance(document, dict):
        raise ValueError(
            f"{path} must be a JSON object, got {type(document).__name__}; download it again"
        )
    for key in ("auto_map", "custom_generate", "trust_remote_code"):
        if document.get(key):
            raise ValueError(
                f"{path} must not name code of its own, got {key}; no model's code is run here: "
                f"pass a plain {titles()}, or remove the entry to use transformers' own {titles()}"
            )
