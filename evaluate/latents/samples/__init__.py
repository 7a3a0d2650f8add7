"""Contexts of chosen latents: those that explain, those that test explanations, and controls.

`collect` collects them; `twin` makes the control, an SAE that was never trained.
"""
