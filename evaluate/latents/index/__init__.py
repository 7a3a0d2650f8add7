"""One pass over stored activations: where, how often and how strongly every latent fires."""
