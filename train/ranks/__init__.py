"""Several processes that train one SAE together: `world` joins them and ends them together, `wire`
carries tensors, `reduce` adds what shards give, `agreement` says whether they may begin, and
whether they share latents or rows."""
