"""From rows to committed buckets: the `writer` fills one `bucket` at a time, `sealing` commits."""
