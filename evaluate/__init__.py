"""From SAE, model and text to numbers and a page: `run` evaluates with `measure`, `page` shows."""
