"""The steps of a suite: what each makes, when it is done, and the run over all of them."""
