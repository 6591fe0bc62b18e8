"""Calls made ready: what is fetched and made to fit, what every failure is to a caller, and who stops what."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from adapters.base import Call, Surface
from adapters.openai.request import FieldPolicy, check, read
from adapters.registry import make
from gateway.config.models import Model
from gateway.errors import GatewayError
from gateway.media import prepare, scale
from gateway.media.fetch import Fetcher
from gateway.media.library import Library, Shelf
from gateway.media.policies import url_policy
from gateway.media.prepare import Preparer
from gateway.media.scale import shrink
from tests.media.web import PUBLIC, Certificates, Talk, Web, page, redirect
from tests.support.pictures import JPEG, PNG_1, data_url, noise, opened, photo, png_header, saved

pytestmark = pytest.mark.anyio
IMAGE = "https://img.example.com/a.png"
OTHER = "https://other.example.com/b.png"
PARAM = "messages[0].content[1].image_url.url"
MiB = 1_048_576


@dataclass
class Counts:
    fetches: Counter[str] = field(default_factory=Counter)
    cache: Counter[str] = field(default_factory=Counter)
    scaled: Counter[str] = field(default_factory=Counter)

    def media_fetched(self, outcome: str, seconds: float, size: int) -> None:
        self.fetches[outcome] += 1

    def media_cache(self, result: str) -> None:
        self.cache[result] += 1

    def media_scaled(self, model: str) -> None:
        self.scaled[model] += 1


def model_of(media: dict[str, Any] | None = None, **options: Any) -> Model:
    deployment = {"endpoint": "e", "region": "us-east-1", "container": "vllm", "version": "0.33"}
    modalities = ("text", "image", "audio", "video")
    return Model.model_validate(
        {"name": "m", "modalities": modalities, "media": media or {}, "deployments": (deployment,), **options}
    )


@dataclass
class Desk:
    """A preparer with the web behind it."""

    web: Web
    model: Model
    counts: Counts
    preparer: Preparer

    def call(self, *parts: Any, **fields: Any) -> Call:
        content = [{"type": "text", "text": "What is it?"}, *parts]
        body = {"model": "m", "messages": [{"role": "user", "content": content}], **fields}
        policy = FieldPolicy(modalities=self.model.modalities, urls=url_policy(self.model))
        return check(read(Surface.CHAT, json.dumps(body).encode()), policy)

    async def prepared(self, *parts: Any, **fields: Any) -> Call:
        async with asyncio.timeout(30):
            return await self.preparer.prepare(self.call(*parts, **fields), "m")

    async def sent(self, *parts: Any, **fields: Any) -> list[str]:
        """Return the URLs of the parts as a container would get them."""
        call = await self.prepared(*parts, **fields)
        body = make("vllm", "0.33").encode(call, stream=True)
        assert len(body) <= self.preparer.max_bytes
        content = json.loads(body)["messages"][0]["content"]
        assert content == call.values["messages"][0]["content"]
        return [part[part["type"]].get("url", "") for part in content[1:]]

    async def refused(self, *parts: Any, **fields: Any) -> tuple[int, str, str | None, str]:
        with pytest.raises(GatewayError) as caught:
            await self.prepared(*parts, **fields)
        error = caught.value
        return error.status, error.code, error.param, error.message


@asynccontextmanager
async def desk(
    certificates: Certificates, media: dict[str, Any] | None = None, *, max_bytes: int = 6 * MiB, **options: Any
) -> AsyncIterator[Desk]:
    async with Web(certificates) as web:
        counts, model = Counts(), model_of(media, **options)
        library = Library(Fetcher(web.hop(), concurrent=16), Shelf(64 * MiB), counts, fresh_s=60)
        preparer = Preparer([model], library, counts, max_bytes=max_bytes, threads=2)
        try:
            yield Desk(web, model, counts, preparer)
        finally:
            await preparer.close()


def image(url: str, **more: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


# Fetched


async def test_what_a_url_names_stands_in_its_place(certificates: Certificates) -> None:
    async with desk(certificates) as here:
        here.web.put(IMAGE, page(PNG_1, "image/png"))
        here.web.put(OTHER, page(JPEG, "application/octet-stream"))
        inline = data_url("png", PNG_1)
        assert await here.sent(image(IMAGE, detail="low"), image(inline), image(OTHER)) == [
            data_url("png", PNG_1),
            inline,
            data_url("jpeg", JPEG),
        ]


async def test_nothing_else_of_the_body_changes(certificates: Certificates) -> None:
    async with desk(certificates) as here:
        here.web.put(IMAGE, page(PNG_1, "image/png"))
        call = here.call(image(IMAGE, detail="low"), temperature=0.5, metadata={"a": IMAGE})
        prepared = await here.preparer.prepare(call, "m")
    before, after = bytes(call.raw["messages"]), bytes(prepared.raw["messages"])
    assert after == before.replace(IMAGE.encode(), data_url("png", PNG_1).encode())
    assert {name: value for name, value in prepared.raw.items() if name != "messages"} == {
        name: value for name, value in call.raw.items() if name != "messages"
    }


async def test_equal_calls_give_equal_bytes(certificates: Certificates) -> None:
    async with desk(certificates, max_bytes=200_000) as here:
        here.web.put(IMAGE, page(saved(noise(500, 500), "PNG"), "image/png"))
        bodies = {
            make("vllm", "0.33").encode(await here.prepared(image(IMAGE), image(OTHER_DATA)), stream=False)
            for _ in range(3)
        }
    assert len(bodies) == 1
    assert here.counts.fetches == Counter(ok=1)


OTHER_DATA = data_url("png", saved(noise(400, 300, seed=7), "PNG"))


async def test_sounds_and_films_are_fetched_too(certificates: Certificates) -> None:
    sound, film = b"fLaC" + bytes(50), b"\0\0\0\x20ftypisom" + bytes(50)
    async with desk(certificates) as here:
        here.web.put(IMAGE, page(sound, "audio/flac"))
        here.web.put(OTHER, page(film, "video/mp4"))
        parts = {"type": "audio_url", "audio_url": {"url": IMAGE}}, {"type": "video_url", "video_url": {"url": OTHER}}
        spoken = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
        assert await here.sent(*parts, spoken) == [data_url("flac", sound, "audio"), data_url("mp4", film, "video"), ""]


async def test_one_url_named_twice_is_fetched_once(certificates: Certificates) -> None:
    async with desk(certificates) as here:
        here.web.put(IMAGE, page(PNG_1, "image/png"))
        assert len(set(await here.sent(*[image(IMAGE)] * 5))) == 1
        assert len(here.web.asked) == 1


async def test_several_are_fetched_together_but_not_all(certificates: Certificates) -> None:
    running = most = 0
    eight, go = asyncio.Event(), asyncio.Event()

    async def answer(talk: Talk) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == prepare.FETCHES_PER_CALL:
            eight.set()
        await go.wait()
        running -= 1
        await talk.send(page(PNG_1, "image/png"))

    async with desk(certificates) as here:
        urls = [f"https://img.example.com/{number}" for number in range(12)]
        for url in urls:
            here.web.put(url, answer)
        call = asyncio.create_task(here.sent(*map(image, urls)))
        async with asyncio.timeout(10):
            await eight.wait()
        go.set()
        assert await call == [data_url("png", PNG_1)] * 12
    assert most == prepare.FETCHES_PER_CALL


async def test_urls_for_the_container_are_left_alone(certificates: Certificates) -> None:
    async with desk(certificates, {"urls": "pass"}, image_hosts=("img.example.com",)) as here:
        call = here.call(image(IMAGE))
        assert await here.preparer.prepare(call, "m") is call
        assert here.web.lookups == []


async def test_a_call_that_needs_nothing_is_the_same_call(certificates: Certificates) -> None:
    async with desk(certificates) as here:
        for call in (here.call(), here.call(image(data_url("png", PNG_1)), image(data_url("jpg", JPEG)))):
            assert await here.preparer.prepare(call, "m") is call


async def test_an_image_called_something_else_gets_its_own_name(certificates: Certificates) -> None:
    async with desk(certificates) as here:
        wrong = [data_url("jpeg", PNG_1), data_url("jpg", PNG_1), data_url("png", JPEG), data_url("gif", PNG_1)]
        right = [data_url("png", PNG_1)] * 2 + [data_url("jpeg", JPEG), data_url("png", PNG_1)]
        assert await here.sent(*map(image, wrong)) == right


# What a caller learns of failures

UNREACHABLE = (
    f"{PARAM} could not be fetched: it must be a public URL that answers a GET with a PNG, JPEG, GIF or WebP image."
)


async def test_inside_outside_and_nowhere_look_the_same(certificates: Certificates) -> None:
    async with desk(certificates) as here:
        here.web.put("https://other.example.com/status", page(b"", None, "404 Not Found"))
        here.web.put("https://other.example.com/broken", b"SSH-2.0-x\r\n")
        here.web.put("https://other.example.com/inside", redirect("https://127.0.0.1/"))
        here.web.put("https://other.example.com/circle", redirect("/circle"))
        here.web.names |= {"inside.example.com": ["10.0.0.1"], "mixed.example.com": [PUBLIC, "127.0.0.1"]}
        here.web.names |= {"elsewhere.example.com": ["93.184.216.35"]}
        urls = [
            "https://127.0.0.1/",
            "https://169.254.169.254/latest/meta-data/",
            "https://[::1]/",
            "https://2130706433/",
            "https://inside.example.com/",
            "https://mixed.example.com/",
            "https://nowhere.example.com/",
            "https://elsewhere.example.com/",  # no certificate for this name
            "https://other.example.com/status",
            "https://other.example.com/broken",
            "https://other.example.com/inside",
            "https://other.example.com/circle",
        ]
        for url in urls:
            assert await here.refused(image(url)) == (400, "invalid_image_url", PARAM, UNREACHABLE), url
        here.web.put(IMAGE, page(PNG_1))
        here.web.refusing = {PUBLIC}
        assert await here.refused(image(IMAGE)) == (400, "invalid_image_url", PARAM, UNREACHABLE)


@pytest.mark.parametrize(
    ("answer", "media", "expected"),
    [
        pytest.param(
            page(b"<html>", "text/html"),
            {},
            (400, "invalid_image_url", "leads to no PNG, JPEG, GIF or WebP image."),
            id="a page",
        ),
        pytest.param(
            page(bytes(2_000), "image/png"),
            {"max_fetch_bytes": 1_999},
            (413, "request_too_large", "leads to more than 1999 bytes, the most that is fetched from one URL."),
            id="too large",
        ),
        pytest.param(
            lambda talk: talk.gone(),
            {"fetch_timeout_s": 0.05},
            (400, "invalid_image_url", "could not be fetched within 0.05 seconds."),
            id="too slow",
        ),
        pytest.param(
            page(png_header(30_000, 30_000), "image/png"),
            {},
            (400, "invalid_value", "has 30000 × 30000 pixels, more than the 50000000 that this model takes."),
            id="too many pixels",
        ),
        pytest.param(
            page(png_header(11, 10), "image/png"),
            {"max_pixels": 109},
            (400, "invalid_value", "has 11 × 10 pixels, more than the 109 that this model takes."),
            id="more pixels than the model takes",
        ),
    ],
)
async def test_other_failures_say_what_is_wrong(
    certificates: Certificates, answer: Any, media: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    async with desk(certificates, media) as here:
        here.web.put(IMAGE, answer)
        status, code, words = expected
        assert await here.refused(image(IMAGE)) == (status, code, PARAM, f"{PARAM} {words}")


async def test_the_part_that_failed_is_named_and_the_others_are_given_up(certificates: Certificates) -> None:
    left = asyncio.Event()

    async def wait(talk: Talk) -> None:
        await talk.gone()
        left.set()

    async with desk(certificates) as here:

        async def fail(talk: Talk) -> None:
            await here.web.was_asked(2)
            await talk.send(page(b"", None, "404 Not Found"))

        here.web.put(IMAGE, wait)
        here.web.put(OTHER, fail)
        status, code, param, _ = await here.refused(image(IMAGE), image(OTHER))
        assert (status, code, param) == (400, "invalid_image_url", "messages[0].content[2].image_url.url")
        await asyncio.wait_for(left.wait(), 10)
        assert here.counts.fetches == Counter(status=1, cancelled=1)


async def test_all_urls_of_a_call_have_a_limit_together(certificates: Certificates) -> None:
    async with desk(certificates, {"max_fetch_total_bytes": 100_000}) as here:
        urls = [f"https://img.example.com/{number}" for number in range(4)]
        for number, url in enumerate(urls):
            here.web.put(url, page(saved(noise(100, 100, seed=number), "PNG"), "image/png"))
        assert len(await here.sent(*map(image, urls[:3]))) == 3
        status, code, _, message = await here.refused(*map(image, urls))
        assert (status, code) == (413, "request_too_large")
        assert message == ("The URLs of this request lead to more than 100000 bytes, the most that is fetched for one.")


# Made to fit


async def test_the_largest_images_are_scaled_down_and_the_small_ones_left(certificates: Certificates) -> None:
    small, large = data_url("png", saved(noise(60, 60), "PNG")), data_url("png", saved(photo(900, 600), "PNG"))
    async with desk(certificates, max_bytes=200_000) as here:
        here.web.put(IMAGE, page(saved(photo(1200, 900), "JPEG", quality=98), "image/jpeg"))
        sent = await here.sent(image(small), image(large), image(IMAGE))
        assert sent[0] == small
        assert len(large) > 1_000_000
        for url in sent[1:]:
            assert url.startswith("data:image/jpeg;base64,")
            assert 40_000 < len(url) < 100_000
        width, height = opened(base64.b64decode(sent[2].partition(",")[2])).size
        assert abs(width / height - 4 / 3) < 0.02
        assert here.counts.scaled == Counter(m=2)


async def test_a_longer_chat_sends_the_same_image(certificates: Certificates) -> None:
    url = data_url("png", saved(noise(600, 600), "PNG"))
    async with desk(certificates, max_bytes=300_000) as here:
        sent = [await here.sent(image(url), user="x" * 1_000 * turn) for turn in range(5)]
        assert len({url for (url,) in sent}) == 1


async def test_an_image_is_scaled_once_for_all_turns(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        assert threading.current_thread() is not threading.main_thread()
        return shrink(*arguments)

    monkeypatch.setattr(scale, "shrink", counted)
    url = data_url("png", saved(noise(600, 600), "PNG"))
    async with desk(certificates, max_bytes=300_000) as here:
        for _ in range(3):
            await here.sent(image(url))
    assert calls == 1


async def test_a_body_just_within_the_limit_is_sent_as_it_is(certificates: Certificates) -> None:
    url = data_url("png", saved(noise(100, 100), "PNG"))
    async with desk(certificates, max_bytes=45_000) as here:
        call = here.call(image(url), user="x")
        room = 45_000 - len(make("vllm", "0.33").encode(call, stream=True))
        for spare, same in ((80, True), (-1, False)):
            longer = here.call(image(url), user="x" * (room - spare + 1))
            prepared = await here.preparer.prepare(longer, "m")
            assert (prepared is longer) is same
            assert len(make("vllm", "0.33").encode(prepared, stream=True)) <= 45_000


TOO_LARGE = (
    "The request is {size} bytes long as it would be sent on, and at most 100000 can be. The largest of its media: "
)


async def test_where_scaling_is_off_the_limit_and_the_sizes_are_told(certificates: Certificates) -> None:
    first, second = (data_url("png", saved(noise(side, side), "PNG")) for side in (150, 200))
    async with desk(certificates, {"scale_down": False}, max_bytes=100_000) as here:
        here.web.put(IMAGE, page(saved(noise(100, 100), "PNG"), "image/png"))
        status, code, param, message = await here.refused(image(first), image(second), image(IMAGE))
        assert (status, code, param) == (413, "request_too_large", "messages[0].content[2].image_url.url")
        size = int(message.split()[3])
        assert message == TOO_LARGE.format(size=size) + (
            f"messages[0].content[2].image_url.url with {len(second)} bytes, "
            f"messages[0].content[1].image_url.url with {len(first)} bytes, "
            "messages[0].content[3].image_url.url with 40246 bytes."
        )
        fetched = len(data_url("png", saved(noise(100, 100), "PNG")))
        assert 0 <= size - len(first) - len(second) - fetched < 500
        assert here.counts.scaled == Counter()


async def test_what_cannot_be_made_small_enough_is_refused(certificates: Certificates) -> None:
    async with desk(certificates, max_bytes=100_000) as here:
        sound = {"type": "input_audio", "input_audio": {"data": "A" * 99_900, "format": "wav"}}
        status, code, param, message = await here.refused(sound, image(data_url("png", PNG_1)))
        assert (status, code, param) == (413, "request_too_large", "messages[0].content[1].input_audio.data")
        assert message.endswith(
            " with 99900 bytes, messages[0].content[2].image_url.url with 114 bytes."
            " Scaling its images down would not do."
        )
        status, code, param, message = await here.refused(user="x" * 100_000)
        assert (status, code, param) == (413, "request_too_large", None)
        assert message.endswith("and at most 100000 can be.")


async def test_a_damaged_image_that_would_have_to_be_scaled_is_refused(certificates: Certificates) -> None:
    damaged = data_url("png", saved(noise(300, 300), "PNG")[:200_000])
    async with desk(certificates, max_bytes=100_000) as here:
        assert await here.refused(image(damaged)) == (
            400,
            "invalid_value",
            PARAM,
            f"{PARAM} holds a damaged image, which cannot be scaled down to fit.",
        )


async def test_scaling_that_has_to_wait_too_long_is_given_up(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(prepare, "SCALE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(prepare, "_shrink", lambda *arguments: go.wait(10))
    url = data_url("png", saved(noise(300, 300), "PNG"))
    async with desk(certificates, max_bytes=100_000) as here:
        with pytest.raises(GatewayError) as caught:
            await here.prepared(image(url))
        error = caught.value
        assert (error.status, error.code, error.param) == (503, "gateway_busy", PARAM)
        go.set()


# Who leaves


async def test_a_caller_who_leaves_stops_the_fetch(certificates: Certificates) -> None:
    left = asyncio.Event()

    async def wait(talk: Talk) -> None:
        await talk.gone()
        left.set()

    async with desk(certificates) as here:
        here.web.put(IMAGE, wait)
        call = asyncio.create_task(here.prepared(image(IMAGE)))
        await here.web.was_asked(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(left.wait(), 10)
        assert here.counts.fetches == Counter(cancelled=1)
