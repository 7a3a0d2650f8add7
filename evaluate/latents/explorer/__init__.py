"""Pages of latents to browse: the static page, its server, the playground."""
