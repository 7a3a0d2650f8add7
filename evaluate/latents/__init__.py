"""Latents one by one: an index of all of them, pages, explanations with scores, ratings."""
