"""One pass over cached activations: where, how often and how strongly every latent fires."""
