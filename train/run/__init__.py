"""A training run: `trainer` moves its members along one stream of `rows`."""
