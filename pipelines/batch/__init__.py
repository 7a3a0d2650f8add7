"""A suite as jobs of a batch system; `targets` has one file for each system."""
