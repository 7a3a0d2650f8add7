"""The suite: the settings of one file, its SAEs one by one, the keys and places of its outputs."""
