"""The control plane: everything that creates or imitates infrastructure, and nothing that serves callers."""
