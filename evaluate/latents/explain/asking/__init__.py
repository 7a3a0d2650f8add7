"""Asking a language model, at a URL or on this machine; equal questions are asked once."""
