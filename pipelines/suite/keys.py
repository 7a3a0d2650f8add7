"""Content keys: what an output depends on, as sixteen hexadecimal digits.

Owns the keys and the cache of file digests. A key is computed from a step's name and version, its
settings and its inputs' keys. No path, host or time enters it: the same work has the same key
anywhere.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import RootModel, ValidationError

from ...harvest.model.files import model_folder
from ...harvest.text.text_file import TextFile, is_stream, look_at, open_raw
from ...store.place.files import write_json
from ...store.place.location import StorageOptions

TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*")
MODEL_FILES = ("config.json", "model*.safetensors", "pytorch_model*.bin")
_BLOCK = 2**20


def key(step: str, version: int, settings: Any, *inputs: str) -> str:
    """The key of a step's output.

    Args:
        version: version of the step; raised when it makes another output of the same inputs.
        settings: JSON values, without paths.
        inputs: keys of the step's inputs.
    """
    text = json.dumps([step, version, settings, inputs], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class _Memory(RootModel[dict[str, str]]):
    """Digests by path, size and state."""


class Digests:
    """Digests of files' contents, kept in a file that may be deleted.

    Each file is read once. Later it is recognised by its size and by its time, tag or generation.
    """

    def __init__(self, memory: Path):
        """Reads the known digests from the file `memory`; a damaged file counts as empty."""
        self._memory = memory
        try:
            self._known = _Memory.model_validate_json(memory.read_bytes()).root
        except (OSError, ValidationError):
            self._known = {}
        self._asked: dict[str, str] = {}

    def of(self, sources: Iterable[TextFile], storage: StorageOptions = None) -> list[str]:
        """The digests of files, in their order; the digest of a stream is its name.

        Raises:
            OSError: a file cannot be read.
        """
        found = [self._digest(source, storage) for source in sources]
        # `plan` and `status` of a suite that was never run leave no folder behind.
        if self._asked.items() - self._known.items() and self._memory.parent.is_dir():
            self._known |= self._asked
            write_json(self._memory, self._known)
        return found

    def model_key(self, model: str, patterns: tuple[str, ...]) -> str:
        """The key of some of a model's files: the revision of a hub model, or the key of the
        digests of a folder's files."""
        folder = model_folder(model)
        if folder.parent.name == "snapshots":
            return folder.name
        files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
        digests = self.of(look_at(str(path)) for path in files)
        return key("model", 1, list(zip([path.name for path in files], digests, strict=True)))

    def _digest(self, source: TextFile, storage: StorageOptions) -> str:
        if is_stream(source.path):
            return source.path
        name = f"{source.path} {source.size} {source.state}"
        if source.state and name in self._known:
            return self._known[name]
        digest = hashlib.blake2b(digest_size=16)
        with open_raw(source.path, storage) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        self._asked[name] = digest.hexdigest()
        return self._asked[name]
