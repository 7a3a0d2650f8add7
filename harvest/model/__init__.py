"""The language model: `loading` it, its `sites`, and the `hooks` that read and replace them."""
