"""Intervals, exact tests and comparisons of groups of runs.

Public: `interval` and `compare`, with what they return.
"""

from shaperun.stats.comparison import Comparison, compare
from shaperun.stats.intervals import Interval, interval

__all__ = ["Comparison", "Interval", "compare", "interval"]
