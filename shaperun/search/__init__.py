"""Sweeps: weights to try, trials to prune, and the ranking of the rest. Internal."""
