"""Figures, GIFs and the HTML report. Internal."""
