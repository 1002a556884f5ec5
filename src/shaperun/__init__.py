"""An experiment runner for reward-shaping studies."""

__version__ = "0.1.0"
