"""Gemma Scope end to end: harvest activations, store them shuffled, train and evaluate JumpReLU SAEs."""
