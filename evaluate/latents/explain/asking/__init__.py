"""Asking a language model: at a URL or on this machine, each thing once."""
