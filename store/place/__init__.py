"""Where bytes are: on a local disk or behind fsspec.

`place` is a URL and its options as one value; `location` is the interface to what is there, `local`
and `remote` implement it, `locate` chooses. `files` writes what belongs together, `ownership` keeps
a folder for one process. Knows no format.
"""
