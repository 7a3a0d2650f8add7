"""The steps of a suite: one module each, which makes an output and says whether it is done."""
