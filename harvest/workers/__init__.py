"""Dask workers: the cluster that tasks run on, and tasks that stall."""
