"""The plan: what a suite takes, before it is run; and afterwards, how well that was foretold."""
