"""Measurements of the project itself, one package per kind."""
