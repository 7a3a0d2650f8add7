"""Files that `evaluate` wrote and reads again: evaluations, and readings of studies."""
