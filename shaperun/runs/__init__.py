"""Planning, storing and executing the runs of a study. Internal."""
