"""From SAE, model and text to numbers and a page: `measure`, then `page`; `run` is the command."""
