"""Whether runs survive being killed, whenever that is. Run it: make soak."""
