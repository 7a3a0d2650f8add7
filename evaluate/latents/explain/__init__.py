"""`scopeworks latents explain`: a sentence for each latent, from the contexts in which it fires.

`explainers` has one file and one row each; `asking` is how a language model is asked, and what it
answers kept; `prompts/` has the texts that it is asked with. `run` is the way in.
"""
