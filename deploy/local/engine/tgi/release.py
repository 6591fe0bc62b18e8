"""What changed on the wire from one release of TGI to the next.

Read from https://github.com/huggingface/text-generation-inference around releases 1.4.5, 2.0.4, 2.3.1, 2.4.0, 3.1 and
3.3: router/src/{lib,server,sagemaker,validation,chat}.rs and router/src/infer. What changed in between begins with the
first release after its pull request, where that is known, and else with the first release that was read.
"""

from __future__ import annotations

from dataclasses import dataclass

Version = tuple[int, int, int]

NEWEST: Version = (3, 3, 7)
OLDEST: Version = (1, 4, 3)

KNOWN: dict[tuple[int, int], Version] = {
    (1, 4): (1, 4, 5),
    (2, 0): (2, 0, 4),
    (2, 1): (2, 1, 1),
    (2, 2): (2, 2, 0),
    (2, 3): (2, 3, 1),
    (2, 4): (2, 4, 1),
    (3, 0): (3, 0, 2),
    (3, 1): (3, 1, 1),
    (3, 2): (3, 2, 3),
    (3, 3): NEWEST,
}
"""The last release of each line."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release of TGI, asked by feature."""

    version: Version

    def since(self, major: int, minor: int) -> bool:
        """Return whether this is that release or a later one."""
        return self.version[:2] >= (major, minor)

    @property
    def name(self) -> str:
        """The release as `/info` and `system_fingerprint` have it."""
        return ".".join(map(str, self.version))

    @property
    def field_end(self) -> bytes:
        """What parts `data` and its value: axum 0.7, from 2.1 on (PR 1959), writes a space, and 0.6 did not."""
        return b": " if self.since(2, 1) else b":"

    @property
    def takes_any_payload(self) -> bool:
        """Whether /invocations takes every kind of body (PR 2683); before, MESSAGES_API_ENABLED chose one."""
        return self.since(2, 4)

    @property
    def default_tokens(self) -> int | None:
        """How long an answer gets unless asked otherwise: from 3.0 on as long as there is room (PR 2803)."""
        return None if self.since(3, 0) else 100

    @property
    def ends_with_done(self) -> bool:
        """Whether streams of chats and completions end with [DONE] (PR 2221)."""
        return self.since(2, 2)

    @property
    def old_schema(self) -> bool:
        """Whether every object is a `text_completion`, ids of calls are numbers and an end is an `eos_token`."""
        return not self.since(2, 2)

    @property
    def takes_parts(self) -> bool:
        """Whether a message's content may be a list of parts, images among them (PR 1828)."""
        return self.version >= (2, 0, 2)

    @property
    def greedy_at_zero(self) -> bool:
        """Whether temperature 0 means greedy in chats and completions; before, it was refused."""
        return self.since(2, 2)

    @property
    def counts_in_streams(self) -> bool:
        """Whether streams know usage and input_length."""
        return self.since(2, 3)

    @property
    def named_calls(self) -> bool:
        """Whether the grammar of tools has the model write the name of the one it calls."""
        return self.since(2, 0)

    @property
    def can_decline(self) -> bool:
        """Whether the grammar has a `no_tool`, for answers that call none."""
        return self.since(2, 4)

    @property
    def swallows_errors(self) -> bool:
        """Whether a chat's stream leaves errors out, so that nothing but [DONE] is left of it."""
        return self.since(2, 4) and not self.since(3, 0)

    @property
    def openai_errors(self) -> bool:
        """Whether errors in streams of chats and completions have a `message` and a status (PR 2668)."""
        return self.since(3, 0)

    @property
    def echoes_model(self) -> bool:
        """Whether a chat's reply repeats the model's name in the request."""
        return self.since(3, 1)

    @property
    def openai_calls(self) -> bool:
        """Whether tool calls are as OpenAI has them: arguments as text, lists in streams (PR 3076, 3086)."""
        return self.since(3, 2)

    @property
    def usage_apart(self) -> bool:
        """Whether a stream's usage is a chunk of its own."""
        return self.since(3, 2)
