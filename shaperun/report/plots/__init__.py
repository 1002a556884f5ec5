"""Static figures, one module per kind. Internal."""
