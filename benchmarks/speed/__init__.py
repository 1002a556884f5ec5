"""Comparisons side by side: `python -m benchmarks.speed`. README.md explains each row."""
