"""The steps of a suite: what each makes, and when it is done; the table has their order."""
