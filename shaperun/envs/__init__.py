"""Environments: their terms, outcomes, controllers and spaces."""
