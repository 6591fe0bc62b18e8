"""Judges calls by IAM policies, as far as this project's own policies go; what it does not know it refuses to judge.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

KNOWN = {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an AWS API, as IAM sees it."""

    action: str
    resource: str


def allows(policies: Iterable[Mapping[str, Any]], call: Call, **context: str) -> bool:
    """Return whether policies of an identity, or a role's trust, allow a call; in `context`'s keys __ is a colon."""
    keys = {name.replace("__", ":"): value for name, value in context.items()}
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in policy["Statement"]
        if _applies(statement, call, keys)
    }
    return "Allow" in effects and "Deny" not in effects


def _applies(statement: Mapping[str, Any], call: Call, keys: Mapping[str, str]) -> bool:
    if unknown := set(statement) - KNOWN:
        raise ValueError(f"{unknown} is not judged here")
    return (
        any(_matches(pattern.lower(), call.action.lower()) for pattern in _all(statement["Action"]))
        # A trust names no resource: it is the role's own.
        and any(_matches(pattern, call.resource) for pattern in _all(statement.get("Resource", "*")))
        and all(
            _holds(operator, wanted, keys.get(key))
            for operator, conditions in statement.get("Condition", {}).items()
            for key, wanted in conditions.items()
        )
    )


def _holds(operator: str, wanted: Any, found: str | None) -> bool:
    if found is None:
        return False
    if operator == "StringEquals":
        return found in _all(wanted)
    if operator in ("StringLike", "ArnLike"):
        return any(_matches(pattern, found) for pattern in _all(wanted))
    raise ValueError(f"{operator} is not judged here")


def _matches(pattern: str, text: str) -> bool:
    """Match the only two wildcards there are."""
    return bool(re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text))


def _all(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
