"""OpenAI's chat and text completions: the caller's side, and what vLLM-backed containers have in common with it."""
