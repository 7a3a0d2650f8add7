"""Ratings of latents by people: a page that hides the latents' SAE, the answers, the agreement."""
