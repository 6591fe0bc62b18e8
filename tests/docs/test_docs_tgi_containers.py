"""docs/tgi-containers.md says what the adapters of TGI's containers do."""

from __future__ import annotations

import re

import pytest

from adapters.errors import UnsupportedParameter
from adapters.registry import make
from adapters.tgi import behind_table
from gateway.config.load import parse
from tests.adapters.calls import chat, completion
from tests.docs.reading import page
from tests.docs.tables import renewed

PAGE = page("tgi-containers.md")
VERSIONS = re.findall(r"^\| (\d\.\d)(?: to (\d\.\d)| on) \| (yes|no)\b.*? \| (yes|no|only)\b", PAGE, re.MULTILINE)


def takes(version: str, surface: str, *, messages_api: bool) -> bool:
    adapter = make("tgi", version, messages_api=messages_api)
    call = chat() if surface == "chats" else completion()
    try:
        adapter.encode(call, stream=False)
    except UnsupportedParameter:
        return False
    return True


def test_the_tables_are_current() -> None:
    assert renewed("tgi-containers.md") == PAGE, "run `python -m tests.docs.tables`"


def test_the_example_is_a_models_file() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    config = parse(example.encode(), "gateway.yaml", {})
    deployments = [deployment for model in config.models for deployment in model.deployments]
    assert [(each.container, each.schema) for each in deployments] == [("tgi", "openai"), ("lmi", "tgi")]


@pytest.mark.parametrize(("first", "last", "texts", "chats"), VERSIONS)
def test_each_version_takes_what_is_told(first: str, last: str, texts: str, chats: str) -> None:
    for version in filter(None, (first, last)):
        assert takes(version, "texts", messages_api=False) == (texts == "yes")
        assert takes(version, "chats", messages_api=False) == (chats == "yes")
        if chats == "only":
            assert takes(version, "chats", messages_api=True)
            assert not takes(version, "texts", messages_api=True)


def test_every_version_has_its_line() -> None:
    assert [version[:2] for version in VERSIONS] == [("1.0", "1.3"), ("1.4", "2.3"), ("2.4", "")]


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (r"`stop` has at most (\d+) strings", behind_table.MAX_STOPS),
        (r"`logprobs` is at most (\d+)", behind_table.MAX_TOP_TOKENS),
        (r"Without `max_tokens` it is (\d+)", behind_table.DEFAULT_COMPLETION_TOKENS),
        (r"Before (\d\.\d) no call can be demanded by `required`", behind_table.TOOL_CHOICE_OBJECT),
        (r"Images need (\d\.\d)", behind_table.IMAGE_PARTS),
    ],
)
def test_the_prose_has_the_numbers_of_the_code(said: str, value: int | tuple[int, int]) -> None:
    found = re.search(said, PAGE)
    assert found
    assert found[1] == (str(value) if isinstance(value, int) else ".".join(map(str, value)))
