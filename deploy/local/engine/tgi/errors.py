"""TGI's errors: a status, a text and a kind. https://github.com/huggingface/text-generation-inference:
router/src/infer/mod.rs (InferError), router/src/validation.rs (ValidationError), router/src/server.rs
"""

from __future__ import annotations

from http import HTTPStatus

from deploy.local.engine.refusal import Unanswered


class TgiError(Unanswered):
    """A request that gets an error instead of an answer, or in the middle of it."""

    def __init__(self, error: str, kind: str, status: int = HTTPStatus.UNPROCESSABLE_ENTITY) -> None:
        super().__init__(error)
        self.error, self.kind, self.status = error, kind, int(status)


class Unreadable(Unanswered):
    """A request that its web framework refuses, in plain text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = int(status), text


def invalid(text: str) -> TgiError:
    """Return the refusal of a value."""
    return TgiError(f"Input validation error: {text}", "validation")


def tool_error(text: str) -> TgiError:
    """Return the refusal of tools, or of what the model made of them."""
    return TgiError(f"Tool error: {text}", "tool_error")


def overloaded() -> TgiError:
    """Return the refusal of one call too many."""
    return TgiError("Model is overloaded", "overloaded", HTTPStatus.TOO_MANY_REQUESTS)


def failed(reason: str) -> TgiError:
    """Return what is said of a model that broke."""
    return TgiError(
        f"Request failed during generation: Server error: {reason}", "generation", HTTPStatus.FAILED_DEPENDENCY
    )


SHARD_DIED = "transport error"
"""What the router hears of a model server that is gone."""
