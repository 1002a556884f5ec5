"""Confidence intervals, exact tests and comparisons for groups of independent runs.

Public: `interval` and `compare`, and their result types.
"""

from shaperun.stats.comparison import Comparison, compare
from shaperun.stats.intervals import Interval, interval

__all__ = ["Comparison", "Interval", "compare", "interval"]
