"""What some studies need beside the suite: text by subset, conversations, prices, predictions."""
