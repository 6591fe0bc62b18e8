"""Who is calling: API keys, their digests, and what each key may use."""
