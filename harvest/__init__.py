"""From text to activations: `text`, `tokens`, `model`, `rows`.

`settings` has the settings of the commands. From Python the commands are `tokenize_text`,
`sample_rollouts` and `harvest_rows`, whose `--dry-run` is `estimate_harvest`. `capture`, `replace`
and `forward_until` work on a loaded model.
"""

from typing import TYPE_CHECKING

from ..public_names import public_names

if TYPE_CHECKING:
    from .model.hooks import capture as capture
    from .model.hooks import forward_until as forward_until
    from .model.hooks import replace as replace
    from .model.loading import LanguageModel as LanguageModel
    from .model.loading import load_model as load_model
    from .model.sites import Site as Site
    from .rows.estimate import estimate_harvest as estimate_harvest
    from .rows.run import harvest_rows as harvest_rows
    from .settings import HarvestSettings as HarvestSettings
    from .settings import RolloutSettings as RolloutSettings
    from .settings import TokenizeSettings as TokenizeSettings
    from .tokens.rollouts import sample_rollouts as sample_rollouts
    from .tokens.run import tokenize_text as tokenize_text
else:
    __getattr__, __dir__, __all__ = public_names(
        __name__,
        {
            "HarvestSettings": "settings",
            "LanguageModel": "model.loading",
            "RolloutSettings": "settings",
            "Site": "model.sites",
            "TokenizeSettings": "settings",
            "capture": "model.hooks",
            "estimate_harvest": "rows.estimate",
            "forward_until": "model.hooks",
            "harvest_rows": "rows.run",
            "load_model": "model.loading",
            "replace": "model.hooks",
            "sample_rollouts": "tokens.rollouts",
            "tokenize_text": "tokens.run",
        },
    )
