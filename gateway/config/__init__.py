"""Configuration: the file, the environment, and what is wrong with them in words an operator can act on."""
