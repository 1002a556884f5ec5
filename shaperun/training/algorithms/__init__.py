"""Learners, one module each, named as in `algorithm:`. Internal."""
