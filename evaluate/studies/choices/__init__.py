"""Studies of choices: precision, shuffle, bandwidth, storing, transcoders instead of SAEs."""
