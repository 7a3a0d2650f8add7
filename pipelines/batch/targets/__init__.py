"""Batch systems: one module and one row of `table` for each."""
