"""What is wrong with a TGI request, with the status and the words TGI itself uses.

router/src/{validation,server}.rs and router/src/infer/mod.rs of
https://github.com/huggingface/text-generation-inference, and axum's `Json` extractor for bodies that do not parse.
"""

from __future__ import annotations

from adapters.errors import AdapterError

VALIDATION = "validation"
"""The `error_type` of what TGI's validation refuses."""


class TgiRefusal(AdapterError):
    """The caller's body cannot be served; `message` is for the caller."""

    def __init__(self, message: str, *, status: int = 422, error_type: str | None = VALIDATION) -> None:
        """`error_type` is the answer's field of that name; None makes `message` the whole body, as plain text."""
        super().__init__(message)
        self.message = message
        self.status = status
        self.error_type = error_type


def invalid(words: str) -> TgiRefusal:
    """Build what TGI's validation answers; `words` are those of its `ValidationError`."""
    return TgiRefusal(f"Input validation error: {words}")


def not_json(cause: str, body: bytes, offset: int) -> TgiRefusal:
    """Build what TGI answers to a body that is no JSON; `offset` is where, in bytes."""
    before = body[:offset]
    line, column = before.count(b"\n") + 1, offset - (before.rfind(b"\n") + 1) + 1
    return TgiRefusal(
        f"Failed to parse the request body as JSON: {cause} at line {line} column {column}", status=400, error_type=None
    )


def wrong_shape(cause: str, path: str = "") -> TgiRefusal:
    """Build what TGI answers to JSON that is no request; `path` is that of the wrong value, `parameters.top_k`."""
    where = f"{path}: {cause}" if path else cause
    return TgiRefusal(f"Failed to deserialize the JSON body into the target type: {where}", error_type=None)
