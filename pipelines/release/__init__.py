"""Releases: `folder` writes one, `card` its model card, `push` brings it to the hub."""
