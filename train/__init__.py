"""From rows to SAEs: the step's `kernels`, the `sae`, a `run` and what is `saved` of it.

`settings` says what a run is, `sweep` makes many on one stream, `frontier` compares them.
"""
