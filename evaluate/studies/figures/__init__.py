"""Studies of the report's figures: what trained SAEs do, measured on held-out text."""
