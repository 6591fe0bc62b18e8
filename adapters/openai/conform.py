"""The few places where vLLM's replies break OpenAI's published schema, mended on the bytes.

vLLM leaves out `refusal` of logprobs and writes null for `annotations`, `function_call` and the two details of usage,
which OpenAI's schema has as optional but never null (https://github.com/openai/openai-openapi). Nothing else is
touched: vLLM's further fields are of use, its own clients rely on them.

Replacing bytes is exact: the quotes of a JSON string's content are escaped, so `,"annotations":null` can only be a
field, and no object of vLLM's but these has fields of such names.
"""

from __future__ import annotations

_NULL_FIELDS = (
    b',"annotations":null',
    b',"function_call":null',
    b',"prompt_tokens_details":null',
    b',"completion_tokens_details":null',
)
_LOGPROBS, _LOGPROBS_WITH_REFUSAL = b'"logprobs":{"content":', b'"logprobs":{"refusal":null,"content":'


def conform(reply: bytes) -> bytes:
    """Return a compact chat completion, or one of its chunks, as OpenAI's schema has it."""
    for field in _NULL_FIELDS:
        reply = reply.replace(field, b"")
    return reply.replace(_LOGPROBS, _LOGPROBS_WITH_REFUSAL)
