"""What the engine says: a few fixed answers that demos and tests ask for by word, and otherwise a little free text.

The package docstring lists the words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deploy.local.engine.dice import Dice

GREETING = "Hello! How can I help you today?"
EMOJI = "Café — naïve 😀🚀 日本語 ✓ ½ 👨\u200d👩\u200d👧."
LINES = 'First line.\n\nSecond line, "quoted" \\ backslash\tand a tab.\n- a\n- b\n'
LOOKING = "Let me look that up.\n"
JSON = '{"city": "Paris", "degrees": 21, "sunny": true}'

_GREETED = re.compile(r"(hello|hi|hey|good (morning|afternoon|evening))( there| world| again)?[\s!.,?]*", re.IGNORECASE)
_COUNT_TO = re.compile(r"\bcount\b(?: up)?(?: from 1| from one)? to (\d{1,9})", re.IGNORECASE)
_REPEAT = re.compile(r"\s*(?:repeat|echo): ?(.*)", re.IGNORECASE | re.DOTALL)
_FAIL = re.compile(r"\bfail after (\d{1,9})\b", re.IGNORECASE)

_SUBJECTS = (
    "the quiet lantern", "a patient gardener", "the old compass", "a copper kettle", "the bright window",
    "a careful reader", "the long river", "a small violin", "the harbour light", "a gentle wind",
    "the silver moon", "a simple idea",
)  # fmt: skip
_VERBS = (
    "follows", "remembers", "answers", "measures", "carries", "watches", "covers", "explains", "turns toward",
    "waits for", "listens to", "begins with",
)  # fmt: skip
_OBJECTS = (
    "the first letter", "a warm meadow", "every other road", "the last question", "a marble step",
    "the morning train", "an open book", "the whole garden", "a better map", "the deep water",
    "one more story", "the next word",
)  # fmt: skip
_ENDINGS = (
    "", " before noon", " without a sound", " as it always did", " and stays there", " in plain words",
    " with some care", " one step at a time",
)  # fmt: skip

_QUOTED_WORDS = 8


def answer(prompt: str, dice: Dice, most_tokens: int) -> str:
    """Return the answer to a prompt; `most_tokens` bounds how far it is worth counting."""
    if repeated := _REPEAT.fullmatch(prompt):
        return repeated[1]
    word = prompt.strip()
    if _GREETED.fullmatch(word):
        return GREETING
    if counted := _COUNT_TO.search(word):
        return count(min(int(counted[1]), most_tokens))
    lowered = word.lower().rstrip(".!?")
    if lowered == "count":
        return count(100)
    for name, text in (("emoji", EMOJI), ("lines", LINES), ("json", JSON)):
        if lowered == name:
            return text
    return free_text(prompt, dice)


def count(last: int) -> str:
    """Return `1, 2, 3` up to `last`."""
    return ", ".join(map(str, range(1, last + 1)))


def free_text(prompt: str, dice: Dice) -> str:
    """Return a few sentences, the first of which quotes the prompt."""
    quoted = quote(prompt)
    opening = f'You wrote "{quoted}".' if quoted else "You wrote nothing that I can read."
    return " ".join([opening, *(sentence(dice) for _ in range(3 + dice.below(3)))])


def quote(prompt: str) -> str:
    """Return the first words of a prompt on one line."""
    words = prompt.split(maxsplit=_QUOTED_WORDS)
    return " ".join(words[:_QUOTED_WORDS])[:80]


def sentence(dice: Dice) -> str:
    """Return a sentence."""
    text = f"{dice.pick(_SUBJECTS)} {dice.pick(_VERBS)} {dice.pick(_OBJECTS)}{dice.pick(_ENDINGS)}."
    return text[0].upper() + text[1:]


def endless(*seed: object) -> Iterator[str]:
    """Return sentences without end, each with the space before it: what follows an answer that may not stop."""
    dice = Dice("endless", *seed)
    while True:
        yield f" {sentence(dice)}"


def reasoning(prompt: str, tools: list[str]) -> str:
    """Return the thoughts before an answer, or before calling those tools."""
    if len(tools) > 1:
        return "\nI need two tools.\n"
    if tools:
        return f"\nI need the {tools[0]} tool.\n"
    if _GREETED.fullmatch(prompt.strip()):
        return "\nThe user greets me. I greet back.\n"
    return f"\nThe user wrote {len(prompt.split())} words. I answer in plain text.\n"


def tool_answer(results: list[tuple[str, str]]) -> str:
    """Return the answer to what tools said: pairs of a tool's name and its text, quoted exactly."""
    return " ".join(f"The {name} tool answered: {text}" for name, text in results)


def seen_images(images: list[str], prompt: str) -> str:
    """Return the answer to images, each described like `image/png 8x8`."""
    head = "I see 1 image" if len(images) == 1 else f"I see {len(images)} images"
    tail = f' You wrote "{quote(prompt)}".' if prompt.strip() else ""
    return f"{head}: {', '.join(images)}.{tail}"


def failure_point(prompt: str) -> int | None:
    """Return after how many tokens the prompt asks the engine to die: "fail after 5"."""
    found = _FAIL.search(prompt)
    return int(found[1]) if found else None
