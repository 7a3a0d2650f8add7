"""What the pass counts of every latent: exact, of bounded size, the same in any cut into parts."""
