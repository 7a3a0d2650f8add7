"""SAEs as files, whoever wrote them: one module a format, which reads and writes it; the `table`.

A reader parses and checks what the config declares and what shapes the tensors' file declares, both
ways, before it reads a number. It returns the config and the tensors of a folded SAE (raw
activations in and out). A writer returns the files of a folder, whoever writes them then.
"""
