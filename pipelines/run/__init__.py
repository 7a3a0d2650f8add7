"""Running a suite: its steps in order, its status, its records, its work as shares."""
