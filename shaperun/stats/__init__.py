"""Intervals, exact tests and comparisons of groups of runs."""
