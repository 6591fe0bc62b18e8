"""What OpenAI's callers get from containers with TGI's schema, held against OpenAI's own description of its API.

TGI in every version that the local engine speaks, and LMI's `inputs` and `parameters`; each kind of request is answered
whole, as a stream, and gathered from a stream, or refused by the adapter before anything is sent.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from adapters.base import Adapter
from adapters.errors import UnsupportedParameter
from adapters.registry import make
from deploy.local.engine import Engine, build
from tests.adapters.test_adapters_schema import (
    FORMAT,
    NAMED,
    PICTURE,
    REQUESTS,
    call_of,
    chat,
    check_gathered,
    check_stream,
    check_whole,
    of_tools,
)

VERSIONS = [(1, 4), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (3, 0), (3, 1), (3, 2), (3, 3)]
ALWAYS, NEVER = (1, 4), (9, 9)

ASKED: dict[str, tuple[dict[str, Any], tuple[int, int], bool]] = {
    "plain": (chat("hello"), ALWAYS, True),
    "several bytes a character": (chat("emoji", max_tokens=200), ALWAYS, True),
    "three choices": (REQUESTS["three choices"], NEVER, True),
    "a tool": (of_tools("weather in Rome"), (2, 0), True),
    "two tools": (of_tools("both in Rome"), (2, 0), True),
    "no tool": (of_tools("hello"), (2, 0), True),
    "tools not to be used": (of_tools("weather", "none"), (2, 0), True),
    "a required tool": (of_tools("hello", "required"), (2, 4), True),
    "a named tool": (of_tools("hello", NAMED), (2, 0), True),
    "log probabilities": (chat("hello", logprobs=True), ALWAYS, True),
    "alternatives": (chat("hello", logprobs=True, top_logprobs=3), ALWAYS, True),
    "a schema": (chat("json", response_format=FORMAT), (2, 1), True),
    "json": (chat("json", response_format={"type": "json_object"}), NEVER, True),
    "a stop word": (chat("count to 9", stop=["4"]), ALWAYS, True),
    "cut short": (chat("count to 50", max_completion_tokens=7), ALWAYS, True),
    "a picture": ({"messages": [{"role": "user", "content": PICTURE}]}, (2, 1), True),
    "completion": (REQUESTS["completion"], ALWAYS, True),
    "completion cut short": (REQUESTS["completion cut short"], ALWAYS, True),
    "completion stopped": (REQUESTS["completion stopped"], ALWAYS, True),
    "completion by a schema": ({"prompt": "json", "response_format": FORMAT, "max_tokens": 60}, ALWAYS, True),
    "echo": (REQUESTS["echo"], ALWAYS, True),
    "probabilities": ({"prompt": "count to 3", "logprobs": 0}, ALWAYS, True),
    "probabilities of others": ({"prompt": "count to 3", "logprobs": 2}, ALWAYS, False),
    "echo with probabilities": (REQUESTS["echo with probabilities"], NEVER, False),
    "prompts": (REQUESTS["prompts"], NEVER, False),
}
"""What is asked, the first version of TGI that is asked it, and whether LMI is."""


def answers(engine: Engine, adapter: Adapter, fields: dict[str, Any]) -> bool:
    """Check a request's answers in every way it can be asked; return False if it is refused in every way."""

    async def ask_in_every_way() -> None:
        await check_whole(engine, adapter, fields)
        await check_gathered(engine, adapter, fields)
        for usage in (False, True):
            await check_stream(engine, adapter, {**fields, "stream_options": {"include_usage": usage}})

    try:
        asyncio.run(ask_in_every_way())
    except UnsupportedParameter:
        for stream in (False, True):
            with pytest.raises(UnsupportedParameter):
                adapter.encode(call_of(fields), stream=stream)
        return False
    return True


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: ".".join(map(str, version)))
def test_every_answer_of_tgi_is_as_openai_describes_it(version: tuple[int, int], name: str) -> None:
    fields, since, _ = ASKED[name]
    chats_only = "messages" in fields and version < (2, 4)
    text = ".".join(map(str, version))
    engine = build(f"tgi-{text}", messages_api=True) if chats_only else build(f"tgi-{text}")
    assert answers(engine, make("tgi", text, messages_api=chats_only), fields) is (version >= since)


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("version", range(15, 29))
def test_every_answer_to_lmis_own_schema_is_as_openai_describes_it(version: int, name: str) -> None:
    fields, _, asked = ASKED[name]
    assert answers(build(f"lmi{version}"), make("lmi", str(version), schema="tgi"), fields) is asked
