"""Writing stores: `writer` fills a `bucket`, `sealing` commits it; `split` is for token stores."""
