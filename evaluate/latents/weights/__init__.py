"""What the weights alone say of every latent: output tokens, nearest directions, a map."""
