"""Batch systems: one file and one row of `table` each."""
