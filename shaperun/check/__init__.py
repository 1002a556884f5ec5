"""What a reward pays for, before any training."""
