"""What calls say: the same for the same seed, of the length asked for, with the prefix asked for, or from a file."""

from __future__ import annotations

import base64
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deploy.bench.amounts import distribution
from deploy.bench.dataset import BadFile, read
from deploy.bench.plan import Load, Plan, Prompts, Stage, Target
from deploy.bench.png import picture
from deploy.bench.prompts import Bodies
from deploy.bench.words import WORDS

STAGE = Stage(0, "closed", 1)


def bodies(seed: int = 0, api: str = "chat", stream: bool = True, model: str | None = "m", **prompts: Any) -> Bodies:
    target = Target("openai", "http://x", "/", model, api, stream)  # type: ignore[arg-type]  # one of the two
    options: dict[str, Any] = {"input_tokens": distribution("20"), "output_tokens": distribution("5")} | prompts
    return Bodies(Plan(target, Prompts(**options), Load(1.0, None, 0, 0), (STAGE,), seed))


def body(made: Bodies, number: int = 0, stage: Stage = STAGE) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.body(stage, number))
    return found


def words(made: Bodies, number: int) -> list[str]:
    found: list[str] = body(made, number)["messages"][0]["content"].split(" ")
    return found


def test_words_are_many_and_different() -> None:
    assert len(set(WORDS)) == len(WORDS) > 500


def test_a_chat_and_a_completion() -> None:
    said = words(bodies(), 0)
    assert len(said) == 20
    assert body(bodies()) == {
        "model": "m",
        "messages": [{"role": "user", "content": " ".join(said)}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
    }
    made = bodies(api="completions", stream=False, model=None, exact_output=True, extra={"temperature": 0})
    assert body(made) == {
        "prompt": " ".join(said), "max_tokens": 5, "min_tokens": 5, "ignore_eos": True, "temperature": 0,
    }  # fmt: skip


def test_every_call_says_something_else_and_the_same_again() -> None:
    first = [bodies().body(Stage(stage, "closed", 1), number) for stage in range(2) for number in range(20)]
    again = [bodies().body(Stage(stage, "closed", 1), number) for stage in range(2) for number in range(20)]
    assert first == again
    assert len(set(first)) == 40
    assert bodies(seed=1).body(STAGE, 0) not in first


def test_prompts_share_the_prefix_that_was_asked_for() -> None:
    made = bodies(input_tokens=distribution("uniform:20:60"), shared_prefix=0.5)
    said = [words(made, number) for number in range(30)]
    longest = max(said, key=len)
    for one in said:
        common = round(len(one) * 0.5)
        assert one[:common] == longest[:common]
    assert len({one[-1] for one in said}) > 5


def test_groups_have_prefixes_of_their_own() -> None:
    made = bodies(shared_prefix=1.0, prefix_groups=3)
    assert len({" ".join(words(made, number)) for number in range(60)}) == 3


def test_pictures_are_of_their_size_and_all_different() -> None:
    made = bodies(images=2, image_size=(33, 20))
    parts = body(made)["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url", "image_url"]
    seen = set()
    for part in parts[1:]:
        data = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,"))
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size, image.mode) == ("PNG", (33, 20), "RGB")
            seen.add(image.tobytes())
    assert len(seen) == 2


@pytest.mark.parametrize("size", [(1, 1), (65, 1), (1000, 3)])
def test_pictures_of_any_size_are_whole(size: tuple[int, int]) -> None:
    with Image.open(io.BytesIO(picture(*size, random.Random(0)))) as image:
        image.load()
        assert image.size == size


def test_a_file_of_calls(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text(
        '{"prompt": "one", "max_tokens": 3}\n\n{"messages": [{"role": "user", "content": "two"}]}\n', encoding="utf-8"
    )
    made = bodies(file=str(file), output_tokens=None)
    found = sorted(
        (body(made, number)["messages"][0]["content"], body(made, number).get("max_tokens")) for number in (0, 1)
    )
    assert found == [("one", 3), ("two", None)]
    assert made.body(STAGE, 0) == made.body(STAGE, 2)
    assert body(bodies(file=str(file)), 0)["max_tokens"] == 5
    flat = bodies(file=str(file), api="completions")
    assert sorted(body(flat, number)["prompt"] for number in (0, 1)) == ["one", "two"]


@pytest.mark.parametrize("listed", [True, False])
def test_conversations_as_in_sharegpt(tmp_path: Path, listed: bool) -> None:
    rows = [
        {"id": "a", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "x" * 41}]},
        {"id": "b", "conversations": [{"from": "gpt", "value": "only an answer"}]},
        {"id": "c", "conversations": []},
    ]
    file = tmp_path / "share.json"
    file.write_text(json.dumps(rows) if listed else "\n".join(map(json.dumps, rows)), encoding="utf-8")
    (entry,) = read(file)
    assert (entry.prompt, entry.max_tokens) == ("Why?", 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "no call in it", id="nothing"),
        pytest.param("[]", "no call in it", id="an empty list"),
        pytest.param('{"prompt": "a"}\n{"prompt": 5}', "line 2: Expected `str | null`, got `int`", id="a number"),
        pytest.param('{"prompt": "a", "messages": []}', "line 1: needs messages, prompt or conversations", id="both"),
        pytest.param('{"messages": []}', "line 1: messages is empty", id="no messages"),
        pytest.param('{"prompt": "a", "max_tokens": 0}', "line 1: max_tokens is below 1", id="no tokens"),
        pytest.param("[1]", "not a JSON list of calls", id="a list of numbers"),
        pytest.param("secret words", "line 1: JSON is malformed", id="no JSON"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_told_without_its_text(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadFile) as caught:
        read(file)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="No such file"):
        read(tmp_path / "none.jsonl")
