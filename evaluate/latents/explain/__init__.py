"""What a latent means, in a sentence: asked of a language model, or counted from tokens."""
