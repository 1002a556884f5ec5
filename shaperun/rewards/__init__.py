"""Reward configurations, formulas, and the kernel that computes shaped rewards."""
