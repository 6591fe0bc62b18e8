"""How small images must become for a body to fit: the largest first, the small ones untouched.

Sizes come from a ladder. So in the next turn of a chat, whose text has grown a little, the same image is scaled to the
same bytes, and meets the container's caches.
"""

from __future__ import annotations

from collections.abc import Sequence

LEAST_BYTES = 4096
"""Of an image's base64 text; less is no picture any more."""
_STEPS_PER_DOUBLING = 3
_LADDER = tuple(round(LEAST_BYTES * 2 ** (step / _STEPS_PER_DOUBLING)) for step in range(_STEPS_PER_DOUBLING * 18 + 1))
"""From 4 KiB to 1 GiB."""


def most_bytes_each(sizes: Sequence[int], room: int) -> int | None:
    """Return how many bytes each of some images may have at most, so that together they take no more than `room`.

    Images that have no more stay as they are. None if the images would become too small to see.
    """
    cap = room
    left = room
    for place, size in enumerate(sorted(sizes)):
        cap = left // (len(sizes) - place)
        if size > cap:
            break
        left -= size
    return next((step for step in reversed(_LADDER) if step <= cap), None)
