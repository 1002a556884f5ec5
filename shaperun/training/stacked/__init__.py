"""The networks of many runs, evaluated and trained as one batch. Internal."""
