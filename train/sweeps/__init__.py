"""Many SAEs in one command: the members of a sweep, here on one stream or in groups on Dask."""
