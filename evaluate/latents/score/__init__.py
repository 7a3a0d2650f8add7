"""Scores of explanations: predictions on contexts that did not make them, beside controls.

`scorers` has one file per scorer; `statistics` turns predictions into figures with intervals;
`controls` and `variants` make the controls.
"""
