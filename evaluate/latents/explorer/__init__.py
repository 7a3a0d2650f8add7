"""The explorer: a static page over an index's folder, a server for it, and a playground."""
