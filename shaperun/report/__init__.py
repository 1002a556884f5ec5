"""Figures, films (GIF, WebP, MP4) and the HTML report. Internal."""
