"""Train runs, alone or in lockstep, evaluate them and replay their episodes. Internal."""
