"""Harvest: from text to tokens, and from tokens through Gemma 2 to rows of activations."""
