"""What containers make of a request's fields, by version.

`table` says how such knowledge is written down, `vllm` is what is known of vLLM, and `constraints` translates the three
ways to ask for structured output. Adapters translate requests by these tables, and docs/compatibility.md is made of
them.
"""
