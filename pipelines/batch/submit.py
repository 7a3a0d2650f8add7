"""Render and submit: writes a suite's jobs into a folder, and sends them by the target's client."""

import re
import shutil
import subprocess
from pathlib import Path

from ...store.place.files import check_is_replaced, write_folder
from ..run.work import missing_shares, work_of
from ..steps.table import steps_of
from ..suite.outputs import Outputs
from ..suite.settings import SuiteFile
from .jobs import Submission, batch_settings, submission
from .targets.table import target_named
from .texts import WRITTEN

_OURS = re.compile(r"\d\d-[a-z_]+\.(sbatch|json|yaml)")


def render(
    file: SuiteFile, target: str, out: Path, missing_only: bool = False, ready_only: bool = False
) -> Submission:
    """Writes a suite's jobs for a target; the same suite gives the same bytes.

    Args:
        file: the suite.
        target: name of the target.
        out: the folder; jobs of an earlier call that are not among these are removed.
        missing_only: leave out shares that are done.
        ready_only: leave out steps that have to wait for other steps, too.

    Raises:
        ValueError: naming the wrong setting.
    """
    kind = target_named(target)
    settings = batch_settings(file, [step.name for step in steps_of(file.suite)])
    outputs = Outputs(file)
    work = work_of(outputs, settings.shares, settings.gpus)
    missing = missing_shares(outputs, work) if missing_only else None
    plan = submission(file, settings, work, missing, ready_only)
    try:
        files = kind.render(plan)
    except ValueError as error:
        raise ValueError(f"suite {file.path}: {error}") from error
    check_is_replaced(
        out / "README.md", "out", "the README.md of jobs", lambda data: WRITTEN.encode() in data
    )
    if out.is_dir():
        for path in out.iterdir():
            if _OURS.fullmatch(path.name) and path.name not in files:
                path.unlink()
    last = files.pop("README.md")
    write_folder(out, {name: [content] for name, content in files.items()}, ("README.md", last))
    return plan


def submit(file: SuiteFile, target: str, out: Path, ready_only: bool = False) -> Submission:
    """Renders the missing shares and sends them; arguments as for `render`.

    Raises:
        ValueError: the target's client is missing or refuses a job; the files stay, to be sent by
            hand.
    """
    plan = render(file, target, out, missing_only=True, ready_only=ready_only)
    if not plan.jobs:
        return plan
    kind, script = target_named(target), out / "submit.sh"
    if shutil.which(kind.client) is None:
        raise ValueError(
            f"target {target} needs the program {kind.client}, which is not here; {kind.install}; "
            f"or run {script} where it is"
        )
    code = subprocess.run(["sh", str(script.absolute())], check=False).returncode
    if code:
        raise ValueError(
            f"{kind.client} must take every job, but {script} ended with {code}; what it has sent "
            "is printed above, and what it did not can be sent by hand"
        )
    return plan
