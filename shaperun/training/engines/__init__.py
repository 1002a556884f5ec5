"""Training loops, one module each, named as in `engine:`. Internal."""
