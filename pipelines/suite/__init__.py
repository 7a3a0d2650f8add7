"""The suite: what one file asks for, its SAEs one by one, its texts, its outputs' keys."""
