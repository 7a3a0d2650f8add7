"""From tokens to an activation store: `run` is `scopeworks harvest`, a bucket a piece of work."""
