"""Files, YAML, text and errors: nothing here knows about reinforcement learning. Internal."""
