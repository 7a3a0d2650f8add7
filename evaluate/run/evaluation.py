"""The evaluation: SAEs + language model + held-out sequences -> numbers.

Owns the run and the JSON file. Groups of SAEs are measured in this process or by Dask workers, with
the same figures byte for byte.
"""

import json
import re
import time
from pathlib import Path
from typing import Any

import torch

from ...harvest.model.loading import LanguageModel
from ...harvest.settings import of_loaded
from ...machine import find_device, free_memory
from ...store.place.files import check_can_be_written, write_file
from ...train.sae.hub import is_remote
from ...verbs import takes
from ...workers.cluster import check_cluster, n_local_workers
from ..measure.declared.causes import say_warnings
from ..saved.evaluation_file import check_is_evaluation
from ..settings import EvaluateSettings
from .groups import groups_of, joined
from .job import EvaluationJob
from .on_dask import Figures, Seconds, measured_on_dask
from .saes import SAEs, model_dtype
from .timing import check_timing, write_timing


@takes(EvaluateSettings)
def evaluate_saes(settings: EvaluateSettings, lm: LanguageModel | None = None) -> dict[str, Any]:
    """Evaluates the SAEs of `settings` and writes the result to `settings.out`.

    How long it took goes to timing.json beside it.

    Args:
        settings: see `EvaluateSettings`.
        lm: the settings' model, loaded; given as `model` among settings by name.

    Returns:
        The JSON written: settings, model, tokens, clean loss, baselines by site, and one entry per
        SAE in `saes`, in the order of `settings.sae`. docs/evaluate.md explains every field.

    Raises:
        ValueError, OSError: an input is missing or does not fit the others. Nothing is written.
    """
    check_can_be_written(settings.out, "out")
    check_timing(settings.out)
    check_is_evaluation(settings.out)
    result, times = _evaluated(settings, lm)
    write_evaluation(settings.out, result)
    write_timing(settings.out, times)
    return result


def evaluation_of(settings: EvaluateSettings) -> dict[str, Any]:
    """The result that `evaluate` would write. Nothing is written; `settings.out` is not used.

    Raises:
        ValueError, OSError: an input is missing or does not fit the others.
    """
    return _evaluated(settings)[0]


def _evaluated(
    settings: EvaluateSettings, lm: LanguageModel | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The evaluation, and its entry in timing.json."""
    started = time.monotonic()
    settings = settings if lm is None else of_loaded(settings, lm)
    if settings.dask is not None:
        check_cluster(settings.dask)
    find_device(settings.device)  # an error before loading costs nothing
    saes = SAEs(settings)
    saes.look_through(free_memory(torch.device("cpu")) // 2 if settings.dask is None else 0)
    settings = settings.model_copy(update={"dtype": model_dtype(settings, saes.configs)})
    job = EvaluationJob.load(settings, saes, lm)
    settings, facts, items = job.settings, job.facts(), job.items()
    most_bytes = _most_bytes(job)
    if settings.dask is None:
        figures, seconds = _measured_here(job, groups_of(items, 1, most_bytes))
    else:
        del job  # the workers have models of their own
        n = n_local_workers(settings.dask)
        figures, seconds = measured_on_dask(settings, items, facts, most_bytes // n if n else None)
    result = joined(figures)
    for entry, name in zip(result["saes"], settings.sae, strict=True):
        if not is_remote(str(name)):  # a worker records the absolute path
            entry["path"] = str(name)
    say_warnings(result["saes"])
    recorded = settings.model_dump(mode="json", exclude={"dask"})
    return {"settings": recorded, **facts, **result}, {
        "seconds": round(time.monotonic() - started, 1),
        "groups": [
            {"saes": [saes.names[i] for i in group], "seconds": round(took, 1)}
            for group, took in sorted(seconds.items())
        ],
    }


def _most_bytes(job: EvaluationJob) -> int:
    """The largest weights of a group: half of the device's memory that the model leaves free."""
    device = job.lm.device
    held = job.saes.held_bytes if device.type == "cpu" else 0  # already in this memory
    return (free_memory(device) + held) // 2


def _measured_here(job: EvaluationJob, groups: list[tuple[int, ...]]) -> tuple[Figures, Seconds]:
    """The figures of each group and the seconds it took, one group after the other."""
    figures: Figures = {}
    seconds: Seconds = {}
    for group in groups:
        started = time.monotonic()
        figures[group] = job.measured(group)
        seconds[group] = time.monotonic() - started
    return figures, seconds


def write_evaluation(path: Path, result: dict[str, Any]) -> None:
    """Writes the JSON, lists of numbers on one line each."""
    text = json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False)
    # A JSON string holds no line break, so the pattern matches only lists.
    text = re.sub(r"\[\n[\s\d.,eE+\-nul]*\]", lambda m: " ".join(m[0].split()), text)
    write_file(path, (text + "\n").encode())
