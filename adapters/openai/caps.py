"""What one call may cost: caps of this project, which a model's `allow_fields` lifts for the fields it names.

`n` and `best_of` are engine requests (CVE-2026-34756), schemas and patterns are compiled inside the engine
(CVE-2025-48944, GHSA-mrgm-fgjv-mhv8), `stop` strings are searched for after every token.
"""

from __future__ import annotations

MAX_N = 128
"""OpenAI's limit on `n`."""
MAX_BEST_OF = 20
"""OpenAI's limit on `best_of`."""
MAX_LOGPROBS = 20
"""Tokens per position in `top_logprobs`, `logprobs` of completions and `prompt_logprobs`: OpenAI's and vLLM's limit."""
MAX_STOPS, MAX_STOP_CHARS = 16, 256
"""`stop` strings; OpenAI takes 4. Every one is searched for after every token."""
MAX_LOGIT_BIAS = 1024
"""Entries of `logit_bias`."""
MAX_BAD_WORDS, MAX_BAD_WORD_CHARS = 256, 256
"""Strings of `bad_words`."""
MAX_TOKEN_IDS = 1024
"""Entries of `stop_token_ids`, `allowed_token_ids` and `logprob_token_ids`."""
MAX_TOOLS = 128
"""OpenAI's limit on `tools`."""
MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH = 262_144, 64
"""A tool, a response format or a structural constraint, as compact JSON; 64 levels are vLLM 0.33's own limit."""
MAX_PATTERN_CHARS = 8192
"""A regular expression or grammar: it is compiled inside the engine."""
MAX_CHOICE_STRINGS, MAX_CHOICE_CHARS = 1024, 1024
"""Strings the answer is chosen from: `guided_choice` and `structured_outputs.choice`."""
MAX_TEMPLATE_KWARGS, MAX_TEMPLATE_VALUE_CHARS = 16, 1024
"""Entries of `chat_template_kwargs`, and the length of those that are strings."""
MAX_MEDIA_PARTS = 64
"""Images, sounds and films in `messages`, which a container decodes before it counts a token."""
MAX_CHOICES = 256
"""Choices of one call: n, times the number of prompts. vLLM makes an engine request of each."""
