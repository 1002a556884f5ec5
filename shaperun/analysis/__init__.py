"""Tables, statistics and verdicts from run folders. Internal."""
