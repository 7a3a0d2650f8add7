"""Conversations of a suite's instruction-tuned twin, for studies that measure SAEs on them.

Owns the choice of prompts and the folder of the rollouts: in the suite's folder, under a key of
everything that decides their content.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from ....evaluate.study.study import Scene, Variant
from ....harvest.model.files import SHIPPED, model_place
from ....harvest.settings import RolloutSettings
from ....harvest.text.sources import expand
from ....harvest.tokens.rollouts import sample_rollouts
from ....store import TokenStore
from ....store.place.files import write_file
from ....store.place.place import Place
from ...run.runner import run_suite
from ...suite.keys import Digests, key
from ...suite.outputs import Outputs
from ...suite.settings import STDLIB_QUESTIONS, SuiteFile
from ..variants import derived


def with_rollouts(study: str, scene: Scene, file: SuiteFile) -> tuple[Scene, bool]:
    """The scene with conversations of the twin, and whether they had to be made.

    Raises:
        ValueError: the suite's twin or prompts are not known, or its text is given as tokens only.
    """
    twin, suite = scene.twin, file.suite
    if twin is None:
        raise ValueError(
            f"suite {file.path}, [twin]: model must be given, since no instruction-tuned twin of "
            f"{suite.model} is known; set it: --set twin.model=…"
        )
    if file.text_table.store is not None:
        raise ValueError(
            f"suite {file.path}, [text]: sources must be given for a study of the "
            "instruction-tuned twin, whose text is wrapped in the chat template, got store"
        )
    prompts = _prompts(file)
    outputs = Outputs(derived(file, Variant("twin", model=twin)))  # the twin must be there
    run_suite(file, last="tokenize", study=study)  # from here on the folder is the suite's
    folder = suite.out.expanduser().absolute() / "rollouts"
    remote = any(Place(url).is_remote for url in prompts)
    settings = RolloutSettings(
        model=twin,
        text=_files(prompts, folder),
        out="rollouts",
        n=scene.n_conversations,
        context=scene.context or 1024,
        seed=suite.seed,
        device=suite.device,
        storage_options=suite.storage_options if remote else None,
    )
    out = folder / _key(settings, outputs)
    report = sample_rollouts(
        settings.model_copy(update={"out": str(out), "dtype": _dtype_there(out)})
    )
    print(f"rollouts: {report}", flush=True)
    return replace(scene, rollouts=str(out)), not report.already_done


def _dtype_there(out: Path) -> str:
    """The precision of existing rollouts, which are used whatever machine made them; else auto."""
    try:
        settings = TokenStore.open(str(out)).provenance.get("settings", {})
    except FileNotFoundError:
        return "auto"
    return settings.get("dtype", "auto")


def _prompts(file: SuiteFile) -> list[str]:
    """The prompts that the suite names, or the shipped ones of the shipped model.

    Raises:
        ValueError: the suite names none, and its model is not the one that ships.
    """
    prompts = file.suite.twin.prompts
    if not prompts and file.suite.model == model_place(SHIPPED[0]):
        prompts = (STDLIB_QUESTIONS,)
    if not prompts:
        raise ValueError(
            f"suite {file.path}, [twin]: prompts must be given, what users ask of the twin; name a "
            "file of JSON lines with a text each, or hf:NAME"
        )
    return list(prompts)


def _files(prompts: list[str], folder: Path) -> list[str]:
    """The prompts as files. Questions about the standard library are written into the folder; they
    are of held-out modules, whose answers no shipped model was trained on."""
    return [_questions(folder) if one == STDLIB_QUESTIONS else one for one in prompts]


def _questions(folder: Path) -> str:
    """The path of the file of questions, written if it does not exist."""
    from ...tiny_model.questions import stdlib_questions

    lines = [json.dumps({"text": one.asked}) + "\n" for one in stdlib_questions(held_out=True)]
    data = "".join(lines).encode()
    path = folder / f"questions-{hashlib.blake2b(data, digest_size=4).hexdigest()}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        write_file(path, data)
    return str(path)


def _key(settings: RolloutSettings, outputs: Outputs) -> str:
    """Key of the rollouts; `outputs` are those of the suite with the twin as its model."""
    options = settings.storage_options
    prompts = Digests(outputs.out / "digests.json").of(expand(settings.text, options), options)
    places = {"model", "text", "out", "batch", "device"}
    own = settings.model_dump(mode="json", exclude=places, exclude_defaults=True)
    return key("rollouts", 1, own, outputs.model_key, outputs.tokenizer_key, *prompts)
