"""From committed buckets to rows: a store's `reader`, and the `stream` that gives batches."""
