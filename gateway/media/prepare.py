"""A checked call, made ready for SageMaker: its URLs fetched, its images small enough, or refused with a reason.

1. What the gateway is to fetch is fetched, several URLs at a time; they become data: URLs.
2. If the body is then too long for SageMaker, images are scaled down, the largest first, where the model allows it.
3. An image whose data: URL names another type than its bytes do gets the right name.

Only strings that change are written anew. A caller never learns more of a fetch that failed than whether it was too
slow, too large, or nothing of its kind: not whether an address exists, is refused or answers.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from adapters.base import Call
from adapters.openai.emit import most_bytes
from adapters.openai.media import MediaPart, with_texts
from adapters.openai.media_images import measure, window_of
from adapters.openai.urls import NAMES, too_many_pixels
from gateway.config.models import Model
from gateway.errors import GatewayBusy, GatewayError, InvalidImageUrl, InvalidRequest, RequestTooLarge
from gateway.media.faults import FetchFault, Outcome, Undecodable
from gateway.media.fit import most_bytes_each
from gateway.media.library import Content, Library, digest_of
from gateway.media.policies import MediaPolicy, media_policy

T = TypeVar("T")

FETCHES_PER_CALL = 8
"""URLs of one call that are fetched at the same time."""
SCALE_TIMEOUT_S = 30.0
"""For all images of a call, waiting for a thread included."""
SHOWN_PARTS = 5
"""Parts whose sizes an error names."""


class MediaTelemetry(Protocol):
    """Where scaled images are counted."""

    def media_scaled(self, model: str) -> None: ...


class Preparer:
    """Prepares calls."""

    def __init__(
        self,
        models: Iterable[Model],
        library: Library,
        telemetry: MediaTelemetry,
        *,
        max_bytes: int,
        threads: int,
    ) -> None:
        self.max_bytes = max_bytes
        """What SageMaker takes."""
        self._policies = {model.name: media_policy(model) for model in models}
        self._library = library
        self._telemetry = telemetry
        # Threads start as they are needed.
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="media-scale")

    async def prepare(self, call: Call, model: str) -> Call:
        """Return the call as its container is to get it.

        Raises:
            GatewayError: something in it could not be fetched, or it is too large.
        """
        policy = self._policies[model]
        remote = [part for part in call.media if part.remote]
        contents = await self._fetched(remote, policy) if remote else {}
        size = _size(call, policy, contents)
        if size > self.max_bytes:
            contents |= await self._shrunk(call, policy, contents, size)
        named = [part for part in call.media if part not in contents and _is_misnamed(part)]
        if not contents and not named:
            return call
        prepared = await asyncio.to_thread(_rewritten, call, contents, named)
        size = _size(prepared, policy, {})
        if size > self.max_bytes:
            raise self._too_large(prepared, policy, size, {})
        return prepared

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._library.close()

    async def _fetched(self, parts: list[MediaPart], policy: MediaPolicy) -> dict[MediaPart, Content]:
        places = asyncio.Semaphore(FETCHES_PER_CALL)
        contents: dict[MediaPart, Content] = {}

        async def fetch(part: MediaPart) -> None:
            async with places:
                try:
                    content = await self._library.get(part.text, part.kind, policy.fetch)
                except FetchFault as fault:
                    raise _refused(part, fault, policy) from fault
            _check_pixels(part, content, policy)
            contents[part] = content
            if sum(len(each.data) for each in contents.values()) > policy.max_total_bytes:
                raise RequestTooLarge(
                    f"The URLs of this request lead to more than {policy.max_total_bytes} bytes, the most that is "
                    "fetched for one.",
                    param=part.path,
                )

        await _together(fetch(part) for part in parts)
        return contents

    async def _shrunk(
        self, call: Call, policy: MediaPolicy, contents: Mapping[MediaPart, Content], size: int
    ) -> dict[MediaPart, Content]:
        """Return smaller contents for the largest images."""
        images = {part: _length(part, contents) for part in call.media if part.inline or part in contents}
        images = {part: length for part, length in images.items() if part.kind == "image"}
        cap = most_bytes_each(list(images.values()), self.max_bytes - size + sum(images.values()))
        if not images or cap is None or not policy.scale_down:
            raise self._too_large(call, policy, size, contents)
        too_long = [part for part, length in images.items() if length > cap]
        try:
            async with asyncio.timeout(SCALE_TIMEOUT_S):
                made = await _together(self._scaled(part, contents.get(part), cap, policy) for part in too_long)
        except TimeoutError:
            raise GatewayBusy(
                "The gateway is busy scaling images; this request's are too many or too large for now.",
                param=too_long[0].path,
            ) from None
        smaller = {part: content for part, content in zip(too_long, made, strict=True) if content is not None}
        if len(smaller) < len(too_long):
            raise self._too_large(call, policy, size, contents)
        for _ in smaller:
            self._telemetry.media_scaled(policy.model)
        return smaller

    async def _scaled(self, part: MediaPart, content: Content | None, cap: int, policy: MediaPolicy) -> Content | None:
        """Return the image with a data: URL of at most `cap` letters, or None if it cannot be made as small."""
        loop = asyncio.get_running_loop()
        if content is None:
            data = await asyncio.to_thread(binascii.a2b_base64, part.text.partition(",")[2])
            content = Content(part.media_type or "", data, await digest_of(data))
        most = (cap - len("data:image/jpeg;base64,")) // 4 * 3
        original = content.data

        async def make() -> Content:
            return await loop.run_in_executor(self._threads, _shrink, original, most, policy.max_pixels)

        try:
            made = await self._library.made(("scaled", content.digest, most, policy.max_pixels), make)
        except Undecodable as error:
            raise InvalidRequest(
                f"{part.path} holds a damaged image, which cannot be scaled down to fit.", param=part.path
            ) from error
        return made if made.data else None

    def _too_large(
        self, call: Call, policy: MediaPolicy, size: int, contents: Mapping[MediaPart, Content]
    ) -> GatewayError:
        """Name the limit, the length of the body, and those of its largest parts."""
        lengths = sorted(((_length(part, contents), part) for part in call.media), key=lambda pair: -pair[0])
        message = f"The request is {size} bytes long as it would be sent on, and at most {self.max_bytes} can be."
        if lengths:
            message += " The largest of its media: "
            message += ", ".join(f"{part.path} with {length} bytes" for length, part in lengths[:SHOWN_PARTS])
            message += "."
        if policy.scale_down and any(part.kind == "image" for part in call.media):
            message += " Scaling its images down would not do."
        return RequestTooLarge(message, param=lengths[0][1].path if lengths else None)


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results, or raise what failed first, once nothing of it is running any more."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def _shrink(data: bytes, most: int, max_pixels: int) -> Content:
    """Scale an image down, in a thread; without data if it would become too small, which is worth remembering, too."""
    # Pillow takes ten megabytes, which a worker that never scales an image need not have.
    from gateway.media.scale import shrink

    scaled = shrink(data, most, max_pixels)
    return Content("", b"", b"") if scaled is None else Content(scaled.media_type, scaled.data, b"")


def _length(part: MediaPart, contents: Mapping[MediaPart, Content]) -> int:
    """Return how many letters the part's string has, or will have."""
    content = contents.get(part)
    if content is None:
        return len(part.text)
    return len(f"data:{content.media_type};base64,") + (len(content.data) + 2) // 3 * 4


def _size(call: Call, policy: MediaPolicy, contents: Mapping[MediaPart, Content]) -> int:
    """Return how long the body can become with these contents in it."""
    grown = sum(_length(part, contents) - len(part.text) for part in contents)
    return most_bytes(call) + policy.name_bytes + grown


def _rewritten(call: Call, contents: Mapping[MediaPart, Content], named: list[MediaPart]) -> Call:
    """Return the call with data: URLs of these contents, and others' types put right."""
    texts = {
        part: f"data:{content.media_type};base64,{binascii.b2a_base64(content.data, newline=False).decode()}"
        for part, content in contents.items()
    }
    for part in named:
        texts[part] = f"data:{part.media_type};base64,{part.text.partition(',')[2]}"
    return with_texts(call, texts)


def _is_misnamed(part: MediaPart) -> bool:
    """Tell whether an image's data: URL calls it something else than it is."""
    if part.media_type is None:
        return False
    name = part.text[len("data:") : part.text.index(";")]
    return name != part.media_type and (name, part.media_type) != ("image/jpg", "image/jpeg")


def _check_pixels(part: MediaPart, content: Content, policy: MediaPolicy) -> None:
    header = measure(window_of(content.data)) if part.kind == "image" else None
    if header is not None and header.pixels > policy.max_pixels:
        raise InvalidRequest(
            f"{part.path} {too_many_pixels(header.width, header.height, policy.max_pixels)}.", param=part.path
        )


def _refused(part: MediaPart, fault: FetchFault, policy: MediaPolicy) -> GatewayError:
    detail = f"{fault.outcome}: {fault.detail}"
    if fault.outcome is Outcome.TOO_LARGE:
        most = policy.fetch.max_bytes
        return RequestTooLarge(
            f"{part.path} leads to more than {most} bytes, the most that is fetched from one URL.",
            param=part.path,
            detail=detail,
        )
    if fault.outcome is Outcome.TOO_SLOW:
        what = f"could not be fetched within {policy.fetch.timeout_s:g} seconds"
    elif fault.outcome is Outcome.NOT_MEDIA:
        what = f"leads to no {NAMES[part.kind]}"
    else:
        what = f"could not be fetched: it must be a public URL that answers a GET with a {NAMES[part.kind]}"
    return InvalidImageUrl(f"{part.path} {what}.", param=part.path, detail=detail)
