"""What an SAE's files declare: how it was trained, and whether the measured figures agree."""
