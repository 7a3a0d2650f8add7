"""What the pass counts of every latent: exact, bounded, the same whoever adds it up."""
