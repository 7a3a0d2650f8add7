"""Whole runs: the command line, the demo, and the tiny model that it runs on."""

from typing import TYPE_CHECKING

from ..public_names import public_names

if TYPE_CHECKING:
    from .plan.suite_plan import plan_suite as plan_suite
    from .release.facts import ReleaseFacts as ReleaseFacts
    from .release.folder import write_release as write_release
    from .release.sums import check_release as check_release
    from .run.runner import run_suite as run_suite
    from .run.status import suite_status as suite_status
    from .studies.runs import study_suite as study_suite
    from .suite.settings import SuiteFile as SuiteFile
else:
    __getattr__, __dir__, __all__ = public_names(
        __name__,
        {
            "ReleaseFacts": "release.facts",
            "SuiteFile": "suite.settings",
            "check_release": "release.sums",
            "plan_suite": "plan.suite_plan",
            "run_suite": "run.runner",
            "study_suite": "studies.runs",
            "suite_status": "run.status",
            "write_release": "release.folder",
        },
    )
