"""From rows to committed buckets: `writer` fills one `bucket` at a time, `sealing` commits it."""
