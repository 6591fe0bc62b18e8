"""The few places where vLLM's replies break OpenAI's published schema, mended on the bytes.

vLLM leaves out `refusal` of logprobs, and up to 0.9 of messages. It writes null for fields that OpenAI's schema has as
optional but never null (https://github.com/openai/openai-openapi): `annotations` and `function_call` of messages, the
two details of usage, `system_fingerprint` up to 0.21, and the name in later pieces of a required tool call up to 0.25.
Nothing else is touched: vLLM's further fields are of use, its own clients rely on them.

Replacing bytes is exact: the quotes of a JSON string's content are escaped, so `,"annotations":null` can only be a
field, and no object of vLLM's but these has fields of such names.
"""

from __future__ import annotations

_NULL_FIELDS = (
    b',"annotations":null',
    b',"function_call":null',
    b',"prompt_tokens_details":null',
    b',"completion_tokens_details":null',
    b',"system_fingerprint":null',
)
_LOGPROBS, _LOGPROBS_WITH_REFUSAL = b'"logprobs":{"content":', b'"logprobs":{"refusal":null,"content":'
_MESSAGE, _MESSAGE_WITH_REFUSAL = b'"message":{"role":"assistant",', b'"message":{"role":"assistant","refusal":null,'
_UNNAMED_PIECE, _PIECE = b'"function":{"name":null,', b'"function":{'


def conform(reply: bytes) -> bytes:
    """Return a compact chat completion, or one of its chunks, as OpenAI's schema has it."""
    for field in _NULL_FIELDS:
        reply = reply.replace(field, b"")
    if b'"refusal":' not in reply:
        reply = reply.replace(_MESSAGE, _MESSAGE_WITH_REFUSAL)
    reply = reply.replace(_UNNAMED_PIECE, _PIECE)
    return reply.replace(_LOGPROBS, _LOGPROBS_WITH_REFUSAL)
