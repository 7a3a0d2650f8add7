"""From text to activations: `text`, `tokens`, `model`, `rows`; `workers` shares the work out.

`settings` says what the two commands do; `tokens.run` and `rows.run` do it.
"""
