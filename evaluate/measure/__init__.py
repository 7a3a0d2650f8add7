"""Measures SAEs: from SAE, model and sequences to numbers."""
