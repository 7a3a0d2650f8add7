"""How well an explanation predicts a latent, with controls beside it."""
