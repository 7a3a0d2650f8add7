"""What explanations are worth: predictions on contexts that did not make them, beside controls.

`scorers` has one file and one row each; `statistics` turns what they say into figures with
intervals; `controls` are what any score is read beside.
"""
