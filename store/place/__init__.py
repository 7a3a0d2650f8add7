"""Where bytes are: on a local disk or behind fsspec.

`place` is a URL and its options as one value. `location` is the interface to the objects at a
place; `local` and `remote` implement it, `locate` chooses between them. `files` writes local files
that belong together, `ownership` keeps a folder for one process. Knows no format.
"""
