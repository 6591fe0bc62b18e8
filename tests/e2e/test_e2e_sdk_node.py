"""SDKs for Node that must work with the gateway unchanged: OpenAI's client, newest and older, and the AI SDK."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.full_stack import Stack
from tests.support.sdks import Script, run_script, why_not_node

pytestmark = pytest.mark.skipif(why_not_node() != "", reason=why_not_node())

OPENAI = (
    "models",
    "chat",
    "stream",
    "characters of several bytes",
    "stream helper",
    "limits, stops and several choices",
    "image",
    "completion",
    "tools",
    "streamed tools",
    "tools run by the client",
    "structured",
    "wrong key",
    "wrong model",
    "bad parameter",
    "too long a prompt",
    "a stream that breaks",
    "leaving a loop",
    "aborting",
)
AI_SDK = (
    "generateText",
    "streamText",
    "an image",
    "limits and stops",
    "tools",
    "streamed tools",
    "a tool that is required",
    "generateObject",
    "streamObject",
    "Output.object",
    "a wrong model",
    "a bad parameter",
    "a stream that breaks",
    "aborting",
)
"""Made with each provider."""
SCRIPTS = [
    Script("openai", "node", OPENAI, leaves=2, environment={"OPENAI_PACKAGE": "openai"}),
    Script("openai", "node", OPENAI, leaves=2, environment={"OPENAI_PACKAGE": "openai-6"}),
    Script(
        "ai_sdk",
        "node",
        (
            *(f"openai-compatible: {check}" for check in AI_SDK),
            *(f"openai: {check}" for check in AI_SDK),
            "completion models",
            "a wrong key",
        ),
        leaves=2,
    ),
]


@pytest.mark.parametrize("script", SCRIPTS, ids=["openai", "openai-6", "ai-sdk"])
def test_every_check_passes_with_every_model(stack: Stack, tmp_path: Path, script: Script) -> None:
    ran = run_script(script, stack, tmp_path)
    assert ran.failed == []
    assert list(ran.verdicts) == script.expected, ran.errors[-4000:]
    assert ran.refused == [], "it tried to leave this machine"
    assert ran.exit_code == 0, ran.errors[-4000:]
    assert (ran.left, ran.read) == (script.leaves * len(script.models), 0)
