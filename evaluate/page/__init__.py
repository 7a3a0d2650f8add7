"""The report: from an evaluation's numbers to plots and one HTML page."""
