"""Ask which of two episodes is better, and fit a reward to the answers. Internal."""
