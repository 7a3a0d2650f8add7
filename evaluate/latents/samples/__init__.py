"""Contexts of chosen latents: those that explain them, those that test explanations, and controls.

`collect` is the way in; `twin` gives the latents of an SAE that was never trained.
"""
