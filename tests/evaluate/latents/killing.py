"""Scoring in a process of its own, which is killed again and again."""

import multiprocessing
import signal
import time
from typing import Any

from scopeworks.evaluate.latents.score.run import score
from scopeworks.evaluate.latents.score.settings import ScoreSettings
from scopeworks.tests.evaluate.latents.language_server import LanguageServer


def scored(settings: dict[str, Any]) -> None:
    """The whole run."""
    list(score(ScoreSettings.model_validate(settings)))


def killed(settings: dict[str, Any], server: LanguageServer, kills: int, after: int) -> int:
    """Runs until it ends by itself, after `kills` SIGKILLs, each once the server has answered
    `after` more requests; returns how many processes ended by one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ended = 0
    for n in range(kills + 1):
        seen = server.seen
        process = context.Process(target=scored, args=(settings,))
        process.start()
        while n < kills and process.is_alive() and server.seen < seen + after:
            time.sleep(0.002)
        if n < kills:
            process.kill()
        process.join()
        ended += process.exitcode == -signal.SIGKILL
        assert n < kills or process.exitcode == 0
    return ended
