"""Releases: `folder` writes one, `card` its model card, `push` uploads it to the hub."""
