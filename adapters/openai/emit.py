"""The container's request body: the caller's own bytes, in an order that does not vary.

Endpoints routed by prefix hash the first bytes of a body, so that calls with a common prompt meet a warm cache
(https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariantRoutingConfig.html): the prompt comes
first, then the other fields by name, then those that differ from call to call.
"""

from __future__ import annotations

import msgspec

from adapters.base import Call, Surface
from adapters.openai.fields import KNOWN

_LAST = {"user": 0, "metadata": 1, "safety_identifier": 2, "seed": 3, "cache_salt": 4, "request_id": 5}
"""Fields that differ from call to call, in the order in which they end a body."""
_OWN = frozenset({"model", "stream", "stream_options"})
"""Fields the gateway writes itself."""

_encode = msgspec.json.Encoder().encode
_raws = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_values = msgspec.json.Decoder().decode
_STREAM = b',"stream":true,"stream_options":{"include_usage":true'


def body(call: Call, *, stream: bool, served_model_name: bytes | None, own: bytes = b"") -> bytes:
    """Return the body for a container; equal calls give equal bytes.

    A streamed call always asks for usage: the gateway counts with it, and drops it for callers who did not ask.

    Args:
        served_model_name: a JSON string to send as `model`; None sends no model.
        own: more fields of the dialect's, as `,"name":value`; the call has none of their names.
    """
    first = "messages" if call.surface is Surface.CHAT else "prompt"
    parts: list[bytes] = [b"{", _name(first), call.raw[first], own]
    for name in sorted(call.raw, key=_order):
        if name not in _OWN and name != first:
            parts += (b",", _name(name), call.raw[name])
        elif name == "model" and served_model_name is not None:
            parts += (b',"model":', served_model_name)
    if stream:
        parts.append(_STREAM)
        if "stream_options" in call.raw:
            parts += _other_options(call)
        parts.append(b"}")
    parts.append(b"}")
    return b"".join(parts)


def most_bytes(call: Call) -> int:
    """Return how long a body can become, whatever names and options an adapter adds but the served model name."""
    return sum(len(_name(name)) + len(value) + 1 for name, value in call.raw.items()) + len(_STREAM) + 8


def wants_running_usage(call: Call) -> bool:
    """Say whether every chunk is to have usage: vLLM's `continuous_usage_stats`, which needs `include_usage`."""
    options = call.values.get("stream_options")
    return call.include_usage and isinstance(options, dict) and options.get("continuous_usage_stats") is True


def _other_options(call: Call) -> list[bytes]:
    parts: list[bytes] = []
    options = _raws(call.raw["stream_options"])
    for name in sorted(options):
        if name == "include_usage" or (name == "continuous_usage_stats" and not wants_running_usage(call)):
            continue
        if _values(options[name]) is not None:
            parts += (b",", _name(name), options[name])
    return parts


def _order(name: str) -> tuple[int, str]:
    return _LAST.get(name, -1), name


def _name(name: str) -> bytes:
    return _KNOWN_NAMES.get(name) or _encode(name) + b":"


_KNOWN_NAMES = {name: _encode(name) + b":" for known in KNOWN.values() for name in known}
"""The known names, encoded once; callers choose the others, so those are not kept."""
