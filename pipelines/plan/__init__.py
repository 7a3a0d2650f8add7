"""The plan: what a suite costs before it runs, and after a run how good the prediction was."""
