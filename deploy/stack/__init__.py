"""The gateway's own home: what its image, its service and its permissions are made of. See docs/run-docker.md."""
