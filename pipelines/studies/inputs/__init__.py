"""Inputs that some studies add to a suite: text by subset, conversations, prices, predictions."""
