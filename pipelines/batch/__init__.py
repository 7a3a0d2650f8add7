"""A suite as jobs of a batch system: Slurm, Google Batch, Kubernetes, SkyPilot; one file each."""
