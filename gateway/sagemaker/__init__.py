"""The data plane: the only package that speaks to AWS."""
