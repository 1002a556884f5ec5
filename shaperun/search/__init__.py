"""Sweeps: which weights to try, which trials to stop early, which to trust. Internal."""
