"""Whole runs: the command line, the demo, and the tiny model that it runs on."""
