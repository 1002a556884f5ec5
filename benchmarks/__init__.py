"""Comparisons side by side: `python -m benchmarks`. What each row means stands in README.md."""
