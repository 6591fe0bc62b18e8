"""Administration on a port of its own: keys in Redis, and what else operators look after."""
