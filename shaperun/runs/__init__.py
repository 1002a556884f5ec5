"""Which runs a study has, where they are stored, and what executes them. Internal."""
