"""Run folders → tables, statistics and verdicts. Internal."""
