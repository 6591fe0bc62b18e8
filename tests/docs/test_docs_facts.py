"""What the prose of docs/streaming.md, docs/security.md and the decisions states as a number or a name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from adapters.base import Surface
from adapters.openai import caps, fields, request
from gateway.config.models import Model
from gateway.config.settings import Settings
from gateway.faults import MAX_MESSAGE_CHARS
from gateway.http import protocol, relay
from gateway.http.docs_document import errors
from gateway.http.face import STREAM_HEADERS
from gateway.sagemaker import credentials
from tests.docs.reading import DOCS, page

STREAMING, SECURITY = page("streaming.md"), page("security.md")


def default(field: str) -> float:
    section = Model if field in Model.model_fields else Settings
    value: float = section.model_fields[field].default
    return value


@pytest.mark.parametrize(
    ("name", "said", "value"),
    [
        ("streaming.md", r"`hold_status_s` \((\d+) seconds", default("hold_status_s")),
        ("streaming.md", r"`keep_alive_s` \((\d+) seconds", default("keep_alive_s")),
        ("streaming.md", r"`stream_buffer_bytes` \((\d+) KiB", default("stream_buffer_bytes") / 1024),
        ("streaming.md", r"`write_timeout_s` \((\d+) seconds", default("write_timeout_s")),
        ("security.md", r"at most (\d+) levels deep", request.MAX_DEPTH),
        ("security.md", r"at most (\d+) characters of them", MAX_MESSAGE_CHARS),
        ("security.md", r"`best_of` \| (\d+); \d+; \d+ \|", caps.MAX_N),
        ("security.md", r"`best_of` \| \d+; (\d+); \d+ \|", caps.MAX_CHOICES),
        ("security.md", r"`best_of` \| \d+; \d+; (\d+) \|", caps.MAX_BEST_OF),
        ("security.md", r"`prompt_logprobs` \| (\d+) \|", caps.MAX_LOGPROBS),
        ("security.md", r"`stop` \| (\d+) texts", caps.MAX_STOPS),
        ("security.md", r"texts of (\d+) characters", caps.MAX_STOP_CHARS),
        ("security.md", r"(\d+) KiB, \d+ levels", caps.MAX_SCHEMA_BYTES / 1024),
        ("security.md", r"KiB, (\d+) levels", caps.MAX_SCHEMA_DEPTH),
        ("security.md", r"grammar \| (\d+) characters", caps.MAX_PATTERN_CHARS),
        ("security.md", r"`tools` \| (\d+) \|", caps.MAX_TOOLS),
        ("security.md", r"`logit_bias` \| (\d+) entries", caps.MAX_TOKEN_IDS),
        ("security.md", r"`logit_bias` \| (\d+) entries", caps.MAX_LOGIT_BIAS),
        ("security.md", r"`bad_words` \| (\d+) texts", caps.MAX_BAD_WORDS),
        ("security.md", r"`bad_words` \| \d+ texts of (\d+) characters", caps.MAX_BAD_WORD_CHARS),
        ("security.md", r"choose the answer from \| (\d+) \|", caps.MAX_CHOICE_STRINGS),
        ("security.md", r"(\d+) entries, texts of \d+", caps.MAX_TEMPLATE_KWARGS),
        ("security.md", r"entries, texts of (\d+)", caps.MAX_TEMPLATE_VALUE_CHARS),
        ("errors.md", r"more than (\d+) levels deep", request.MAX_DEPTH),
        ("errors.md", r"has more than (\d+) fields", request.MAX_FIELDS),
        ("decisions/0003-credentials-agent.md", r"(\d+) seconds at most", credentials.AGENT_TIMEOUT_S),
        ("decisions/0003-credentials-agent.md", r"expiry: (\d+) minutes", credentials.RENEW_AHEAD_S / 60),
        ("decisions/0005-retries.md", r"At most `attempts` per call \((\d+)\)", default("attempts")),
    ],
)  # fmt: skip
def test_a_number_is_the_one_in_the_code(name: str, said: str, value: float) -> None:
    found = re.search(said, " ".join(page(name).split()))
    assert found, f"docs/{name} no longer says {said!r}"
    assert float(found[1]) == value


def test_durations_in_words_are_those_in_the_code() -> None:
    assert "After `[DONE]` the upstream gets two seconds" in STREAMING
    assert relay.DRAIN_S == 2
    assert "at growing intervals over five seconds" in STREAMING
    assert 4.5 <= sum(protocol.PROBE_GAPS_S) <= 5.5
    assert sorted(protocol.PROBE_GAPS_S) == list(protocol.PROBE_GAPS_S)


def test_the_bytes_that_are_named_are_those_that_are_sent() -> None:
    assert f"the comment `{relay.COMMENT.decode().strip()}` is sent" in STREAMING
    for header in ("cache-control: no-cache", "x-accel-buffering: no"):
        assert f"`{header}`" in STREAMING
        assert header.encode() in STREAM_HEADERS


def test_every_ending_of_a_stream_has_a_row() -> None:
    rows = re.search(r"\| Ending \|.*?\n\n", STREAMING, re.DOTALL)
    assert rows
    assert re.findall(r"^\| `(\w+)` \|", rows[0], re.MULTILINE) == [ending.value for ending in relay.Ending]


def test_every_refused_field_is_named_and_every_named_one_refused() -> None:
    found = re.search(r"\| Fields \| Because.*?\n\n", SECURITY, re.DOTALL)
    assert found
    named = {name for name in re.findall(r"`(\w+)`", found[0]) if name not in ("aws_", "_embeds")}
    assert {name for surface in fields.KNOWN for name in known_names() if fields.is_refused(surface, name)} == named
    assert fields.is_refused(Surface.CHAT, "aws_region_name")
    assert fields.is_refused(Surface.CHAT, "audio_embeds")
    assert "every name that begins with `aws_`" in found[0]
    assert "every name that ends with `_embeds`" in found[0]


def known_names() -> set[str]:
    """Return every name that the lists of adapters/openai/fields.py hold."""
    lists = [value for value in vars(fields).values() if isinstance(value, frozenset)]
    lists += [names for value in vars(fields).values() if isinstance(value, dict) for names in value.values()]
    return {name for names in lists if isinstance(names, frozenset) for name in names}


@pytest.mark.parametrize("name", [path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md"))])
def test_every_code_and_file_that_a_page_names_exists(name: str) -> None:
    text = page(name)
    for path in re.findall(r"`((?:gateway|adapters|tests|deploy|scripts)/[\w/.-]+)`", text):
        assert (DOCS.parent / path).exists(), path
    for code in re.findall(r"errors\.md#(\w+)\)", text):
        assert code in errors() or code == "every-code", code


@pytest.mark.parametrize("path", sorted((DOCS / "decisions").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_is_short_and_in_the_common_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(path.name.partition('-')[0])}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= 40


def test_every_logged_event_is_named_and_every_named_one_logged() -> None:
    logged = set()
    for path in (DOCS.parent / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in LOG_CALLS:
                event = node.args[0]
                assert isinstance(event, ast.Constant), f"{path}:{node.lineno}: an event is a fixed phrase"
                logged.add(event.value)
    found = re.search(r"\| Event \| Fields.*?\n\n", SECURITY, re.DOTALL)
    assert found
    named = {
        event for row in re.findall(r"^\| (`.*?) \|", found[0], re.MULTILINE) for event in re.findall(r"`(.+?)`", row)
    }
    assert named == logged


LOG_CALLS = {f"log.{level}" for level in ("debug", "info", "warning", "error", "exception", "critical")}
