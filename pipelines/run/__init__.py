"""Running a suite: the run over its steps, its status, its records, its work in shares."""
