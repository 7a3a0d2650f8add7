"""From committed buckets to rows: `reader` opens a store, `stream` gives batches."""
