"""What is done with a whole store: verify, copy, describe, statistics, mixing."""
