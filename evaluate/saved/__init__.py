"""Files that this room wrote and reads again: evaluations, readings of studies."""
