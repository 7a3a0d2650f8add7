"""The processes of a test: ranks that are forked from one that has imported everything.

Standard input is a JSON list of lots; a lot is trained by `size` ranks, one run after the other.
With an argument runs must be there to be continued. A lot that has words is a command of them
instead. Prints the exit codes.
"""

import json
import os
import sys
from typing import Any

import torch

from scopeworks.console import run_command
from scopeworks.pipelines.cli import main
from scopeworks.train.ranks.joining import joined
from scopeworks.train.run.trainer import run
from scopeworks.train.settings import TrainSettings

from .processes import environment, free_port


def work(lot: dict[str, Any]) -> None:
    """What a rank does."""
    if lot["words"]:
        sys.argv = ["scopeworks", *lot["words"].split()]
        main()
    with joined(lot["patience_s"]) as world:
        for values in lot["runs"]:
            settings = TrainSettings.model_validate(values)
            run([settings], len(sys.argv) > 1, wait=lot.get("wait", False), world=world)


def codes_of(lot: dict[str, Any]) -> list[int]:
    """Starts the ranks that are here, of as many as there should be; their exit codes."""
    port, children = lot["port"] or free_port(), []
    for rank in range(lot["size"]):
        child = os.fork()
        if not child:
            os.environ.update(environment(rank, lot["of"], port))
            try:
                run_command(lambda: work(lot))
            except SystemExit as stop:
                os._exit(int(stop.code or 0))
            os._exit(0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps([codes_of(lot) for lot in json.load(sys.stdin)]))
