"""Contexts of chosen latents, from cached activations: to explain with, and others to test with."""
