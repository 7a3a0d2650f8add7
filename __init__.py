"""Gemma Scope end to end: harvest activations once, train and evaluate JumpReLU SAEs on them.

    import scopeworks

    lm = scopeworks.load_model("google/gemma-2-2b")
    with scopeworks.capture(lm, "resid_post.12") as x:
        lm("The capital of France is")
    sae = scopeworks.SAE.from_pretrained(
        "google/gemma-scope-2b-pt-res", "layer_12/width_16k/canonical"
    )
    f = sae.encode(x["resid_post.12"])

`dir(scopeworks)` has the names that most need, `dir(scopeworks.store)` and those of `harvest`,
`train`, `evaluate` and `pipelines` all of a stage's. A stage is a noun or a verb, and what it does
says to what: `harvest_rows`, `train_sae`, `evaluate_saes`. docs/api.md has every name.
"""

from typing import TYPE_CHECKING

from .machine import prepare
from .moved import keep_old_paths
from .public_names import public_names

prepare()  # before anything imports torch
keep_old_paths()

if TYPE_CHECKING:
    from . import evaluate as evaluate
    from . import harvest as harvest
    from . import pipelines as pipelines
    from . import store as store
    from . import train as train
    from .evaluate.latents.explorer.steering import LatentChange as LatentChange
    from .evaluate.latents.explorer.steering import SteeredModel as SteeredModel
    from .evaluate.latents.files.folder import open_index as open_index
    from .evaluate.latents.index.run import index_latents as index_latents
    from .evaluate.page.report import write_report as write_report
    from .evaluate.run.evaluation import evaluate_saes as evaluate_saes
    from .harvest.model.hooks import capture as capture
    from .harvest.model.hooks import forward_until as forward_until
    from .harvest.model.hooks import replace as replace
    from .harvest.model.loading import LanguageModel as LanguageModel
    from .harvest.model.loading import load_model as load_model
    from .harvest.model.sites import Site as Site
    from .harvest.rows.run import harvest_rows as harvest_rows
    from .harvest.tokens.rollouts import sample_rollouts as sample_rollouts
    from .harvest.tokens.run import tokenize_text as tokenize_text
    from .pipelines.release.folder import write_release as write_release
    from .pipelines.release.sums import check_release as check_release
    from .store.read.reader import ActivationStore as ActivationStore
    from .store.tokens import TokenStore as TokenStore
    from .train.sae.export import export_sae as export_sae
    from .train.sae.sae import SAE as SAE
    from .train.sweeps.training import train_sae as train_sae
    from .train.sweeps.training import train_sweep as train_sweep
    from .version import __version__ as __version__
else:
    __getattr__, __dir__, __all__ = public_names(
        __name__,
        {
            "store": None,
            "harvest": None,
            "train": None,
            "evaluate": None,
            "pipelines": None,
            "ActivationStore": "store.read.reader",
            "TokenStore": "store.tokens",
            "tokenize_text": "harvest.tokens.run",
            "sample_rollouts": "harvest.tokens.rollouts",
            "harvest_rows": "harvest.rows.run",
            "load_model": "harvest.model.loading",
            "LanguageModel": "harvest.model.loading",
            "Site": "harvest.model.sites",
            "capture": "harvest.model.hooks",
            "replace": "harvest.model.hooks",
            "forward_until": "harvest.model.hooks",
            "SAE": "train.sae.sae",
            "train_sae": "train.sweeps.training",
            "train_sweep": "train.sweeps.training",
            "export_sae": "train.sae.export",
            "evaluate_saes": "evaluate.run.evaluation",
            "write_report": "evaluate.page.report",
            "index_latents": "evaluate.latents.index.run",
            "open_index": "evaluate.latents.files.folder",
            "SteeredModel": "evaluate.latents.explorer.steering",
            "LatentChange": "evaluate.latents.explorer.steering",
            "write_release": "pipelines.release.folder",
            "check_release": "pipelines.release.sums",
            "__version__": "version",
        },
    )
