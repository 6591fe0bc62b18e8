"""What callers may use: requests, tokens, calls at once and money, exact across processes and machines."""
