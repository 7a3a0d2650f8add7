"""`scopeworks latents explain`: a sentence for each latent, from the contexts in which it fires.

`run` is the entry. `explainers` has one module and one row for each explainer; `asking` asks a
language model and keeps its answers; `prompts/` has the prompts.
"""
