"""People rate latents, blind to the SAE."""
