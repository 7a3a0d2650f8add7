"""Scorers: each is one file and one row of `table`."""
