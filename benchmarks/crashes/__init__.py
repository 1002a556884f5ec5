"""Interrupted runs: kill them, let their writes fail, resume them, and compare the results."""
