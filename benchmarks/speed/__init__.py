"""Speed, memory and start-up time, next to tools that readers know."""
