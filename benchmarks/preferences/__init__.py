"""Number of answers until a fitted reward ranks as simulated annotators do."""
