"""Gemma Scope end to end: harvest activations once, train and evaluate JumpReLU SAEs on them."""
