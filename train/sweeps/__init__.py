"""Many SAEs in one command: a sweep's members, on one stream here or in groups on Dask workers."""
