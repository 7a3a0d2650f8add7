"""Several processes ("ranks") that train one SAE: `joining` starts and ends them together, `world`
is one rank's view of all, `wire` sends tensors, `reduce` adds the shards' sums, `agreement` checks
that they may train together and decides whether they share latents or rows."""
