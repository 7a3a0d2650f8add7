"""Dask workers: the cluster that tasks run on, stalls and silence, and shares of a stage's work.

Knows no stage: harvest, train and evaluate use the same code for different tasks.
"""
