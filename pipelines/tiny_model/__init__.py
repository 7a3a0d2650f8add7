"""The models that ship: `base` is the tiny Gemma 2, `twin` its instruction-tuned one."""
