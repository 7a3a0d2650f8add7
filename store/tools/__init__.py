"""Tools for whole stores: list, describe, verify, copy, statistics and mixing."""
