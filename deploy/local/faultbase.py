"""What all scripted faults share: a kind, a role in a call, and the one operation some of them make sense on."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

import msgspec

from deploy.local.members import Operation

Role = Literal["answer", "container", "delay", "pace", "frames", "body", "head", "cut", "chunking", "then"]
"""Where in a call a fault acts: a call takes one of each, but any number of `head`."""


def snake_case(name: str) -> str:
    """Return the JSON kind of a fault's class name."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag=snake_case):
    """Something that goes wrong with a call."""

    default_role: ClassVar[Role] = "answer"
    only_on: ClassVar[Operation | None] = None

    @property
    def kind(self) -> str:
        """The name in JSON."""
        return snake_case(type(self).__name__)

    @property
    def role(self) -> Role:
        """Where in a call it acts."""
        return self.default_role

    @property
    def operation(self) -> Operation | None:
        """The one operation it makes sense on, or None."""
        return self.only_on
