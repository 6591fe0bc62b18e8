"""Bodies of calls: the n-th of a stage is the same in every run with the same plan, whatever process asks for it."""

from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import Any

import msgspec

from deploy.bench import dataset
from deploy.bench.plan import Plan, Stage
from deploy.bench.png import picture
from deploy.bench.words import WORDS

_encode = msgspec.json.Encoder().encode


class Bodies:
    """Makes the bodies of a run."""

    def __init__(self, plan: Plan) -> None:
        """Raise dataset.BadFile if the plan names a file that cannot be used."""
        self._target, self._prompts, self._seed = plan.target, plan.prompts, plan.seed
        self._entries = dataset.read(Path(plan.prompts.file)) if plan.prompts.file else []
        self._order = list(range(len(self._entries)))
        random.Random(f"{plan.seed}:order").shuffle(self._order)  # noqa: S311 - prompts are no secrets
        self._prefixes: dict[int, list[str]] = {}

    def body(self, stage: Stage, number: int) -> bytes:
        """Return the body of call `number` of a stage."""
        # Every call has words of its own, or an endpoint with a prefix cache would know them from the stage before.
        chance = random.Random(f"{self._seed}:{stage.index}:{number}")  # noqa: S311 - prompts are no secrets
        prompts, target = self._prompts, self._target
        asked = prompts.output_tokens.draw(chance) if prompts.output_tokens else None
        if self._entries:
            entry = self._entries[self._order[number % len(self._order)]]
            messages, text = entry.messages, entry.prompt or ""
            asked = asked or entry.max_tokens
        else:
            messages, text = None, self._words(chance)
        fields: dict[str, Any] = {}
        if target.api == "completions":
            fields["prompt"] = text if messages is None else _flat(messages)
        else:
            fields["messages"] = messages or [{"role": "user", "content": self._content(text, chance)}]
        if target.model is not None:
            fields = {"model": target.model} | fields
        if target.stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        if asked is not None:
            fields["max_tokens"] = asked
            if prompts.exact_output:
                fields |= {"min_tokens": asked, "ignore_eos": True}
        return _encode(fields | prompts.extra)

    def _words(self, chance: random.Random) -> str:
        prompts = self._prompts
        count = prompts.input_tokens.draw(chance)
        common = round(count * prompts.shared_prefix)
        words = list(self._prefix(chance.randrange(prompts.prefix_groups), common)) if common else []
        return " ".join(words + chance.choices(WORDS, k=count - common))

    def _prefix(self, group: int, count: int) -> list[str]:
        """Return the first words of a group's text: shorter prompts begin as longer ones do."""
        words = self._prefixes.setdefault(group, [])
        if len(words) < count:
            chance = random.Random(f"{self._seed}:prefix:{group}")  # noqa: S311 - prompts are no secrets
            words[:] = chance.choices(WORDS, k=max(count, 2 * len(words)))
        return words[:count]

    def _content(self, text: str, chance: random.Random) -> object:
        prompts = self._prompts
        if not prompts.images:
            return text
        parts: list[dict[str, object]] = [{"type": "text", "text": text}]
        for _ in range(prompts.images):
            data = base64.b64encode(picture(*prompts.image_size, chance)).decode()
            parts.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
        return parts


def _flat(messages: list[dict[str, object]]) -> str:
    """Return a conversation as text, for an API that takes no other."""
    return "\n".join(str(message.get("content", "")) for message in messages)
