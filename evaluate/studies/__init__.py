"""The studies: one module each, and the table of them."""
