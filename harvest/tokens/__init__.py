"""From documents to a token store: `run` is `scopeworks tokenize`, a part a piece of work."""
