"""What an SAE's files declare: its training, and whether the measured figures agree with it."""
