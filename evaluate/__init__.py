"""From SAE, model and text to numbers and a page: `run` evaluates, `page` makes the report.

From Python, `evaluate_saes` measures, `write_report` makes the page, and `index_latents` the pages
of latents.
"""

from typing import TYPE_CHECKING

from ..public_names import public_names

if TYPE_CHECKING:
    from .latents.explain.run import explain_latents as explain_latents
    from .latents.explain.settings import ExplainSettings as ExplainSettings
    from .latents.explorer.steering import LatentChange as LatentChange
    from .latents.explorer.steering import SteeredModel as SteeredModel
    from .latents.files.folder import LatentIndex as LatentIndex
    from .latents.files.folder import open_index as open_index
    from .latents.index.run import index_latents as index_latents
    from .latents.index.settings import IndexSettings as IndexSettings
    from .latents.score.run import score_latents as score_latents
    from .latents.score.settings import ScoreSettings as ScoreSettings
    from .page.report import write_report as write_report
    from .run.evaluation import evaluate_saes as evaluate_saes
    from .settings import EvaluateSettings as EvaluateSettings
else:
    __getattr__, __dir__, __all__ = public_names(
        __name__,
        {
            "EvaluateSettings": "settings",
            "ExplainSettings": "latents.explain.settings",
            "IndexSettings": "latents.index.settings",
            "LatentChange": "latents.explorer.steering",
            "LatentIndex": "latents.files.folder",
            "ScoreSettings": "latents.score.settings",
            "SteeredModel": "latents.explorer.steering",
            "evaluate_saes": "run.evaluation",
            "explain_latents": "latents.explain.run",
            "index_latents": "latents.index.run",
            "open_index": "latents.files.folder",
            "score_latents": "latents.score.run",
            "write_report": "page.report",
        },
    )
