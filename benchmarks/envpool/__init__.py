"""Comparison of EnvPool and gymnasium by the episodes of hand-written policies."""
