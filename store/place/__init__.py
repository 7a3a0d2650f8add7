"""Where bytes are: on a local disk or behind fsspec.

`location` is the interface, `local` and `remote` implement it, `locate` chooses. `files` writes
what belongs together, `beside` what stands next to a store, `ownership` keeps a folder for one
process. Knows no format.
"""
