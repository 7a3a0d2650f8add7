"""Ratings of latents by people: a page that hides each latent's SAE, the answers, the agreement."""
