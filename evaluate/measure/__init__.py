"""From SAE, model and sequences to numbers."""
