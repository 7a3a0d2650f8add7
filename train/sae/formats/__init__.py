"""File formats of SAEs, ours and others': one module each, which reads and writes it; the `table`.

A reader checks the config against the shapes in the tensors' file, both ways, before it reads a
number. It returns the config and the tensors of a folded SAE (raw activations in and out). A writer
returns the files of a folder; its caller writes them.
"""
