"""What is fetched once: kept, asked for again, shared among those who wait, and given up when they leave."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.openai.media import Kind
from adapters.openai.urls import UrlPolicy
from gateway.media.faults import FetchFault, Outcome
from gateway.media.fetch import Fetched, FetchPolicy, Validators
from gateway.media.library import ENTRY_BYTES, LARGE_BYTES, MAX_URLS, Content, Library, Shelf, digest_of
from tests.sagemaker.peer import until

pytestmark = pytest.mark.anyio
URL = "https://img.example.com/a.png"
ANY = FetchPolicy(UrlPolicy("fetch"))
NAMED = FetchPolicy(UrlPolicy("fetch", ("img.example.com",)))


@dataclass
class FakeFetcher:
    """Answers what a test says, when it says so."""

    data: bytes = b"data"
    media_type: str = "image/png"
    etag: str | None = None
    fresh_s: float | None = None
    keep: bool = True
    fault: FetchFault | None = None
    held: bool = False
    """Fetches wait until they are let go."""
    asked: list[tuple[str, Kind, FetchPolicy, Validators | None]] = field(default_factory=list)
    cancelled: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def fetch(self, url: str, kind: Kind, policy: FetchPolicy, validators: Validators | None = None) -> Fetched:
        self.asked.append((url, kind, policy, validators))
        try:
            await asyncio.sleep(0)
            if self.held:
                await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fault is not None:
            raise self.fault
        unchanged = validators is not None and validators.etag == self.etag
        told = Validators(url, self.etag) if self.etag else None
        data = b"" if unchanged else self.data
        return Fetched(self.media_type, data, unchanged, told, self.fresh_s, self.keep)


@dataclass
class Counts:
    fetches: Counter[str] = field(default_factory=Counter)
    cache: Counter[str] = field(default_factory=Counter)
    size: int = 0
    seconds: float = 0.0

    def media_fetched(self, outcome: str, seconds: float, size: int) -> None:
        self.fetches[outcome] += 1
        self.seconds += seconds
        self.size += size

    def media_cache(self, result: str) -> None:
        self.cache[result] += 1


@dataclass
class Shop:
    """A library with all that a test looks at."""

    fetcher: FakeFetcher
    counts: Counts = field(default_factory=Counts)
    time: float = 1000.0
    max_bytes: int = 1_000_000

    def __post_init__(self) -> None:
        self.library = Library(
            self.fetcher,  # type: ignore[arg-type]  # all that a library uses of a fetcher
            Shelf(self.max_bytes),
            self.counts,
            fresh_s=60.0,
            now=lambda: self.time,
        )

    async def get(self, url: str = URL, kind: Kind = "image", policy: FetchPolicy = ANY) -> bytes:
        return (await self.library.get(url, kind, policy)).data


# By URL


async def test_a_url_is_not_asked_for_again_for_a_while() -> None:
    shop = Shop(FakeFetcher())
    for _ in range(3):
        assert await shop.get() == b"data"
    shop.time += 59.9
    assert await shop.get() == b"data"
    assert len(shop.fetcher.asked) == 1
    shop.time += 0.2
    shop.fetcher.data = b"new"
    assert await shop.get() == b"new"
    assert shop.counts == Counts(Counter(ok=2), Counter(hit=3, miss=2), 7, 0.0)


@pytest.mark.parametrize(
    ("fresh_s", "later_s", "fetches"),
    [
        pytest.param(5.0, 4.0, 1, id="as long as the host says"),
        pytest.param(5.0, 6.0, 2, id="no longer than the host says"),
        pytest.param(0.0, 0.0, 2, id="not at all"),
        pytest.param(9_000.0, 61.0, 2, id="no longer than the operator says"),
    ],
)
async def test_a_host_may_shorten_that(fresh_s: float, later_s: float, fetches: int) -> None:
    shop = Shop(FakeFetcher(fresh_s=fresh_s))
    await shop.get()
    shop.time += later_s
    await shop.get()
    assert len(shop.fetcher.asked) == fetches


async def test_what_may_not_be_kept_is_not() -> None:
    shop = Shop(FakeFetcher(keep=False))
    await shop.get()
    await shop.get()
    assert len(shop.fetcher.asked) == 2


async def test_afterwards_the_host_is_asked_whether_it_has_changed() -> None:
    shop = Shop(FakeFetcher(etag='"1"'))
    await shop.get()
    shop.time += 61
    assert await shop.get() == b"data"
    assert shop.fetcher.asked[1][3] == Validators(URL, '"1"')
    assert await shop.get() == b"data"
    shop.time += 61
    shop.fetcher.etag, shop.fetcher.data = '"2"', b"new"
    assert await shop.get() == b"new"
    assert shop.counts.fetches == Counter(ok=2, unchanged=1)


async def test_of_what_is_no_longer_here_nobody_asks_whether_it_has_changed() -> None:
    shop = Shop(FakeFetcher(etag='"1"'), max_bytes=600)
    await shop.get()
    shop.fetcher.data = b"x" * 80
    await shop.get("https://img.example.com/b.png")
    assert await shop.get() == b"x" * 80
    assert [asked[3] for asked in shop.fetcher.asked] == [None, None, None]


@pytest.mark.parametrize(
    ("kind", "policy"),
    [pytest.param("image", NAMED, id="another policy"), pytest.param("audio", ANY, id="another kind")],
)
async def test_who_may_fetch_otherwise_fetches_anew(kind: Kind, policy: FetchPolicy) -> None:
    shop = Shop(FakeFetcher())
    await shop.get()
    await shop.get(URL, kind, policy)
    assert len(shop.fetcher.asked) == 2
    await shop.get(URL, "image", FetchPolicy(UrlPolicy("fetch")))  # an equal one, of another model
    assert len(shop.fetcher.asked) == 2


async def test_the_same_bytes_may_be_a_sound_and_a_film() -> None:
    shop = Shop(FakeFetcher(media_type="audio/mp4"))
    assert (await shop.library.get(URL, "audio", ANY)).media_type == "audio/mp4"
    shop.fetcher.media_type = "video/mp4"
    assert (await shop.library.get(URL, "video", ANY)).media_type == "video/mp4"
    assert (await shop.library.get(URL, "audio", ANY)).media_type == "audio/mp4"


async def test_failures_are_not_kept() -> None:
    shop = Shop(FakeFetcher(fault=FetchFault(Outcome.STATUS, "status 404")))
    for _ in range(2):
        with pytest.raises(FetchFault, match="status 404"):
            await shop.get()
    shop.fetcher.fault = None
    assert await shop.get() == b"data"
    assert shop.counts.fetches == Counter(status=2, ok=1)


async def test_so_many_urls_are_known() -> None:
    shop = Shop(FakeFetcher(data=b""), max_bytes=1_000_000_000)
    for number in range(MAX_URLS + 1):
        shop.library._remember(number, Content("", b"", b""), Fetched("", b"", False, None, None, True))
    assert len(shop.library._known) == MAX_URLS
    assert 0 not in shop.library._known


# Together


async def test_who_wants_what_is_being_fetched_waits_for_that() -> None:
    shop = Shop(FakeFetcher(held=True))
    calls = [asyncio.create_task(shop.get()) for _ in range(5)]
    await until(lambda: len(shop.fetcher.asked) == 1)
    shop.fetcher.go.set()
    assert await asyncio.gather(*calls) == [b"data"] * 5
    assert (len(shop.fetcher.asked), shop.counts.cache) == (1, Counter(miss=1, shared=4))


async def test_a_failure_is_everybodys() -> None:
    shop = Shop(FakeFetcher(held=True, fault=FetchFault(Outcome.UNREACHABLE, "x")))
    calls = [asyncio.create_task(shop.get()) for _ in range(3)]
    await until(lambda: len(shop.fetcher.asked) == 1)
    shop.fetcher.go.set()
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(failure) for failure in failures] == [FetchFault] * 3
    assert shop.counts.fetches == Counter(unreachable=1)


async def test_one_who_leaves_takes_nothing_from_the_others() -> None:
    shop = Shop(FakeFetcher(held=True))
    first, second = asyncio.create_task(shop.get()), asyncio.create_task(shop.get())
    await until(lambda: shop.counts.cache["shared"] == 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    shop.fetcher.go.set()
    assert await second == b"data"
    assert shop.fetcher.cancelled == 0


async def test_once_all_have_left_the_fetch_is_given_up_and_the_next_one_is_new() -> None:
    shop = Shop(FakeFetcher(held=True))
    calls = [asyncio.create_task(shop.get()) for _ in range(3)]
    await until(lambda: shop.counts.cache["shared"] == 2)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    again = asyncio.create_task(shop.get())
    await until(lambda: len(shop.fetcher.asked) == 2)
    assert shop.fetcher.cancelled == 1
    shop.fetcher.go.set()
    assert await again == b"data"
    assert shop.counts.fetches == Counter(cancelled=1, ok=1)


async def test_closing_gives_up_what_is_running() -> None:
    shop = Shop(FakeFetcher(held=True))
    call = asyncio.create_task(shop.get())
    await until(lambda: len(shop.fetcher.asked) == 1)
    await shop.library.close()
    assert shop.fetcher.cancelled == 1
    assert isinstance((await asyncio.gather(call, return_exceptions=True))[0], asyncio.CancelledError)


# By content


def content(size: int, mark: int = 0) -> Content:
    return Content("image/png", bytes(size), bytes([mark]))


def test_what_was_used_last_stays() -> None:
    shelf = Shelf(3 * (100 + ENTRY_BYTES))
    for key in "abc":
        shelf.put(key, content(100))
    assert shelf.get("a") is not None
    shelf.put("d", content(100))
    assert [shelf.get(key) is not None for key in "abcd"] == [True, False, True, True]
    shelf.put("e", content(2 * 100 + ENTRY_BYTES))
    assert [shelf.get(key) is not None for key in "acde"] == [False, False, True, True]


def test_what_is_larger_than_everything_is_not_kept_at_the_cost_of_everything() -> None:
    shelf = Shelf(1_000)
    shelf.put("a", content(100))
    shelf.put("b", content(1_000))
    assert (shelf.get("a") is not None, shelf.get("b")) == (True, None)


@given(
    st.integers(0, 5_000),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3_000), st.booleans()), max_size=40),
)
def test_a_shelf_is_never_over_its_size(max_bytes: int, steps: list[tuple[int, int, bool]]) -> None:
    shelf = Shelf(max_bytes)
    for key, size, put in steps:
        if put:
            shelf.put(key, content(size))
        else:
            shelf.get(key)
        held = sum(len(each.data) + ENTRY_BYTES for each in shelf._contents.values())
        assert held == shelf.size <= max_bytes


async def test_what_was_made_is_not_made_again() -> None:
    shop = Shop(FakeFetcher())
    made = 0

    async def make() -> Content:
        nonlocal made
        made += 1
        return content(10)

    assert await shop.library.made("a", make) == await shop.library.made("a", make) == content(10)
    await shop.library.made("b", make)
    assert made == 2


@pytest.mark.parametrize("size", [0, LARGE_BYTES - 1, LARGE_BYTES, 3 * LARGE_BYTES])
async def test_a_digest_is_sha_256_in_and_out_of_a_thread(size: int) -> None:
    assert await digest_of(bytes(size)) == hashlib.sha256(bytes(size)).digest()
