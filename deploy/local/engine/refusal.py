"""Why a request gets no answer, before a container's dialect gives the reason a shape."""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus


class Origin(Enum):
    """Where in a container an error comes from, which decides how much of it a caller sees."""

    INPUT = "the handler could not read the body"
    RETURNED = "vLLM returned an ErrorResponse"
    RAISED = "vLLM refused a value: returned up to 0.17, raised from 0.18 on"
    CRASH = "an exception nobody expected"


class Unanswered(Exception):
    """A request that gets an error instead of an answer, in the words of one container or another."""


class Refusal(Unanswered):
    """One in vLLM's words."""

    def __init__(
        self,
        message: str,
        *,
        origin: Origin = Origin.RAISED,
        status: int = HTTPStatus.BAD_REQUEST,
        kind: str = "BadRequestError",
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.origin, self.status, self.kind, self.param = message, origin, int(status), kind, param


def bad_value(message: str, parameter: str | None = None, value: object = None, *, named: bool = True) -> Refusal:
    """Return vLLM's refusal of a value, which since 0.14 (`named`) says which parameter it is about."""
    if not named:
        return Refusal(message)
    extras = [f"{name}={text}" for name, text in (("parameter", parameter), ("value", value)) if text is not None]
    return Refusal(f"{message} ({', '.join(extras)})" if extras else message, param=parameter)


ENGINE_DIED = "EngineCore encountered an issue. See stack trace (above) for the root cause."
ENGINE_DIED_FOR_CLIENTS = "The server had an error while processing your request."
"""What clients read from 0.33 on."""
