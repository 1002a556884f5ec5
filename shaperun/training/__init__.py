"""Train one run, or several in lockstep. Internal."""
