"""Which model a name means, and which of its deployments answers a call."""
