"""From numbers to plots and a page."""
