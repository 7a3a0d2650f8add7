"""Studies of a suite: its variants, their runs, and the files of the findings."""
