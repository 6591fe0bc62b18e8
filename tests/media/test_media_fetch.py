"""From a URL to bytes: redirects, kinds, limits, and that no URL leads anywhere else."""

from __future__ import annotations

import asyncio
import ssl
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.openai.urls import UrlPolicy
from gateway.media.addresses import networks
from gateway.media.faults import FetchFault, Outcome
from gateway.media.fetch import Fetched, Fetcher, FetchPolicy, Validators
from gateway.media.hop import Hop, Pipe
from tests.media.web import PUBLIC, Certificates, Connection, Talk, Web, page, redirect
from tests.support.pictures import JPEG, PNG_1

pytestmark = pytest.mark.anyio
IMAGE = "https://img.example.com/a.png"
OTHER = "https://other.example.com/b.png"
ANY = FetchPolicy(UrlPolicy("fetch"))
PNG = page(PNG_1, "image/png")


async def fetch(web: Web, url: str = IMAGE, policy: FetchPolicy = ANY, **options: Any) -> Fetched:
    async with asyncio.timeout(10):
        return await Fetcher(web.hop(), concurrent=4).fetch(url, options.pop("kind", "image"), policy, **options)


async def failing(web: Web, url: str = IMAGE, policy: FetchPolicy = ANY, **options: Any) -> tuple[Outcome, str]:
    with pytest.raises(FetchFault) as caught:
        await fetch(web, url, policy, **options)
    return caught.value.outcome, caught.value.detail


async def test_an_image_is_fetched_and_named_by_its_bytes(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, page(JPEG, "image/png"))
        fetched = await fetch(web)
    assert (fetched.media_type, fetched.data, fetched.unchanged, fetched.keep) == ("image/jpeg", JPEG, False, True)


# Redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_followed(certificates: Certificates, status: str) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, redirect(OTHER, status))
        web.put(OTHER, PNG)
        assert (await fetch(web)).data == PNG_1
    assert [asked.url for asked in web.asked] == [IMAGE, OTHER]


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        pytest.param("/c.png", "https://img.example.com/c.png", id="a path"),
        pytest.param("c.png?x=1#y", "https://img.example.com/c.png?x=1", id="a relative path"),
        pytest.param("//other.example.com/c.png", "https://other.example.com/c.png", id="a host"),
        pytest.param("/bücher ä.png", "https://img.example.com/b%FCcher%20%E4.png", id="letters beyond ascii"),
        pytest.param("HTTPS://OTHER.EXAMPLE.COM/c.png", "https://other.example.com/c.png", id="capitals"),
    ],
)
async def test_where_a_redirect_leads(certificates: Certificates, location: str, leads_to: str) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, redirect(location))
        web.put(leads_to, PNG)
        assert (await fetch(web)).data == PNG_1


REFUSED_LOCATIONS = [
    "http://img.example.com/a.png",
    "https://127.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[::1]/",
    "https://[fd00:ec2::254]/",
    "https://2130706433/",
    "https://0x7f.1/",
    "//127.0.0.1/",
    "https://inside.example.com/",
    "https://user@other.example.com/",
    "https://other.example.com:8443/",
    "https://other.example.com\\@127.0.0.1/",
    "https://[::1/",
    "file:///etc/passwd",
    "ftp://other.example.com/",
    "gopher://127.0.0.1/_x",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "https://" + "a" * 5000,
]


@pytest.mark.parametrize("location", REFUSED_LOCATIONS)
async def test_a_redirect_is_judged_like_the_first_url(certificates: Certificates, location: str) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, redirect(location))
        web.names |= {"inside.example.com": ["10.0.0.1"], "other.example.com": [PUBLIC]}
        assert (await failing(web))[0] is Outcome.REFUSED
    assert [connection.address for connection in web.connections] == [PUBLIC]


async def test_hosts_are_checked_at_every_hop(certificates: Certificates) -> None:
    named = FetchPolicy(UrlPolicy("fetch", ("img.example.com", "*.cdn.example.com")))
    cdn = "https://a.cdn.example.com/a.png"
    async with Web(certificates) as web:
        web.put(IMAGE, redirect(cdn))
        web.put(cdn, PNG)
        assert (await fetch(web, policy=named)).data == PNG_1
        web.put(cdn, redirect(OTHER))
        web.put(OTHER, PNG)
        assert (await failing(web, policy=named))[0] is Outcome.REFUSED
    assert OTHER not in [asked.url for asked in web.asked]


async def test_addresses_are_checked_at_every_hop(certificates: Certificates) -> None:
    """The host's name leads outside when it is asked for first, and inside when it is redirected to."""
    async with Web(certificates) as web:
        web.put(IMAGE, redirect("/again.png"), "10.0.0.1")
        web.later["img.example.com"] = [[PUBLIC]]
        assert (await failing(web))[0] is Outcome.REFUSED
    assert (web.lookups, len(web.connections)) == (["img.example.com"] * 2, 1)


@pytest.mark.parametrize(("most", "passes"), [(0, False), (1, False), (2, True), (3, True)])
async def test_so_many_redirects_are_followed(certificates: Certificates, most: int, passes: bool) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, redirect("/2"))
        web.put("https://img.example.com/2", redirect("/3"))
        web.put("https://img.example.com/3", PNG)
        policy = FetchPolicy(UrlPolicy("fetch"), max_redirects=most)
        if passes:
            assert (await fetch(web, policy=policy)).data == PNG_1
        else:
            assert await failing(web, policy=policy) == (Outcome.STATUS, "too many redirects")
        assert len(web.asked) == min(most, 2) + 1


async def test_a_circle_ends(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, redirect(IMAGE))
        assert await failing(web) == (Outcome.STATUS, "too many redirects")
    assert len(web.asked) == 4


async def test_http_is_followed_where_it_is_allowed(certificates: Certificates) -> None:
    plain = "http://img.example.com/a.png"
    async with Web(certificates) as web:
        web.put(IMAGE, redirect(plain))
        web.put(plain, PNG)
        assert (await fetch(web, policy=FetchPolicy(UrlPolicy("fetch", http=True)))).data == PNG_1
    assert web.connections == [
        Connection(PUBLIC, 443, "img.example.com"),
        Connection(PUBLIC, 80, None),
    ]


# What came


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        pytest.param(page(b"", "text/html", "404 Not Found"), (Outcome.STATUS, "status 404"), id="not found"),
        pytest.param(page(PNG_1, "image/png", "403 Forbidden"), (Outcome.STATUS, "status 403"), id="forbidden"),
        pytest.param(page(PNG_1, "image/png", "500 Oops"), (Outcome.STATUS, "status 500"), id="broken"),
        pytest.param(page(PNG_1, "image/png", "206 Partial Content"), (Outcome.STATUS, "status 206"), id="a part"),
        pytest.param(page(b"", None, "304 Not Modified"), (Outcome.STATUS, "status 304"), id="unasked 304"),
        pytest.param(page(b"", None, "302 Found"), (Outcome.STATUS, "status 302"), id="a redirect to nowhere"),
        pytest.param(page(PNG_1, "text/html"), (Outcome.NOT_MEDIA, "by its content type"), id="called html"),
        pytest.param(page(PNG_1, "image/svg+xml"), (Outcome.NOT_MEDIA, "by its content type"), id="called svg"),
        pytest.param(page(PNG_1, "audio/mpeg"), (Outcome.NOT_MEDIA, "by its content type"), id="called a sound"),
        pytest.param(page(b"<svg/>", "image/png"), (Outcome.NOT_MEDIA, "by its first bytes"), id="is svg"),
        pytest.param(page(b"", "image/png"), (Outcome.NOT_MEDIA, "by its first bytes"), id="is nothing"),
        pytest.param(page(b"BM" + bytes(60)), (Outcome.NOT_MEDIA, "by its first bytes"), id="is bmp"),
        pytest.param(
            page(b"\x1f\x8b" + bytes(60), "image/png", content_encoding="gzip"),
            (Outcome.NOT_MEDIA, "compressed although nobody asked for that"),
            id="a compressed bomb",
        ),
        pytest.param(
            page(PNG_1, "image/png", content_encoding="identity, br"),
            (Outcome.NOT_MEDIA, "compressed although nobody asked for that"),
            id="compressed twice",
        ),
    ],
)
async def test_what_is_no_image(certificates: Certificates, answer: bytes, outcome: tuple[Outcome, str]) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, answer)
        assert await failing(web) == outcome


async def test_a_sound_and_a_film_are_fetched_as_what_they_are(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, page(b"\0\0\0\x20ftypisom", "video/mp4"))
        assert (await fetch(web, kind="video")).media_type == "video/mp4"
        assert (await fetch(web, kind="audio")).media_type == "audio/mp4"
        assert await failing(web, kind="image") == (Outcome.NOT_MEDIA, "by its content type")


async def test_more_than_the_limit_is_left(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, PNG)
        policy = FetchPolicy(UrlPolicy("fetch"), max_bytes=len(PNG_1) - 1)
        assert await failing(web, policy=policy) == (Outcome.TOO_LARGE, "by its content-length")
        assert (await fetch(web, policy=FetchPolicy(UrlPolicy("fetch"), max_bytes=len(PNG_1)))).data == PNG_1


async def stall(talk: Talk) -> None:
    await talk.send(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n")
    await talk.gone()


async def drip(talk: Talk) -> None:
    await talk.send(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n")
    while True:
        await talk.send(b"x")
        await asyncio.sleep(0.005)


async def wait(talk: Talk) -> None:
    await talk.gone()


@pytest.mark.parametrize("answer", [stall, drip, wait], ids=lambda answer: answer.__name__)
async def test_what_takes_too_long_is_given_up(certificates: Certificates, answer: Any) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, answer)
        policy = FetchPolicy(UrlPolicy("fetch"), timeout_s=0.1)
        assert await failing(web, policy=policy) == (Outcome.TOO_SLOW, "not within 0.1 s")


async def test_a_name_server_that_says_nothing_is_waited_for_no_longer(certificates: Certificates) -> None:
    async def silent(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    fetcher = Fetcher(Hop(certificates.client(), silent), concurrent=1)
    with pytest.raises(FetchFault) as caught:
        await fetcher.fetch(IMAGE, "image", FetchPolicy(UrlPolicy("fetch"), timeout_s=0.05))
    assert caught.value.outcome is Outcome.TOO_SLOW


async def test_so_many_are_fetched_at_once_and_waiting_counts(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, wait)
        web.put(OTHER, PNG)
        fetcher = Fetcher(web.hop(), concurrent=1)
        first = asyncio.create_task(fetcher.fetch(IMAGE, "image", ANY))
        await web.was_asked(1)
        with pytest.raises(FetchFault) as caught:
            await fetcher.fetch(OTHER, "image", FetchPolicy(UrlPolicy("fetch"), timeout_s=0.05))
        assert caught.value.outcome is Outcome.TOO_SLOW
        assert len(web.asked) == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert (await fetcher.fetch(OTHER, "image", ANY)).data == PNG_1


# Asking again


@pytest.mark.parametrize(
    ("headers", "asked_with"),
    [
        pytest.param({"etag": '"v1"'}, {"if-none-match": '"v1"'}, id="a tag"),
        pytest.param({"etag": 'W/"v1"'}, {"if-none-match": 'W/"v1"'}, id="a weak tag"),
        pytest.param(
            {"last_modified": "Wed, 21 Oct 2015 07:28:00 GMT"},
            {"if-modified-since": "Wed, 21 Oct 2015 07:28:00 GMT"},
            id="a date",
        ),
    ],
)
async def test_a_host_is_asked_whether_it_has_changed(
    certificates: Certificates, headers: dict[str, str], asked_with: dict[str, str]
) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, redirect(OTHER))
        web.put(OTHER, page(PNG_1, "image/png", **headers))
        first = await fetch(web)
        web.put(OTHER, page(b"", None, "304 Not Modified"))
        second = await fetch(web, validators=first.validators)
    assert (second.unchanged, second.data, second.validators) == (True, b"", first.validators)
    assert asked_with.items() <= web.asked[3].headers.items()
    assert not {"if-none-match", "if-modified-since"} & set(web.asked[2].headers), "told to a host it is not of"


@pytest.mark.parametrize("etag", ["v1", '"a b"', '"' + "a" * 300 + '"', '"\xe9"', '"a", "b"'])
async def test_a_tag_that_is_none_is_not_repeated(certificates: Certificates, etag: str) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, page(PNG_1, "image/png", etag=etag))
        assert (await fetch(web)).validators is None


@pytest.mark.parametrize(
    ("control", "fresh_s", "keep"),
    [
        pytest.param("", None, True, id="nothing said"),
        pytest.param("max-age=60", 60.0, True, id="a minute"),
        pytest.param('public, Max-Age = "5"', 5.0, True, id="odd spelling"),
        pytest.param("no-cache", 0.0, True, id="ask each time"),
        pytest.param("no-cache, max-age=60", 0.0, True, id="ask each time all the same"),
        pytest.param("no-store", None, False, id="not at all"),
        pytest.param("private, max-age=9", 9.0, False, id="not here"),
        pytest.param("x-no-storey", None, True, id="another word"),
    ],
)
async def test_what_a_host_says_about_keeping(
    certificates: Certificates, control: str, fresh_s: float | None, keep: bool
) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, page(PNG_1, "image/png", cache_control=control))
        fetched = await fetch(web)
    assert (fetched.fresh_s, fetched.keep) == (fresh_s, keep)


async def test_a_validator_is_asked_only_of_its_url(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, page(b"", None, "304 Not Modified"))
        assert await failing(web, validators=Validators(OTHER, '"x"')) == (Outcome.STATUS, "status 304")


# Whatever the URL

ADDRESSES = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number))),
    st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number))),
    st.sampled_from(["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "::ffff:10.0.0.1", PUBLIC,
                     "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1%eth0", "2606:4700::1"]),
)  # fmt: skip
HOSTS = st.one_of(
    ADDRESSES,
    ADDRESSES.map(lambda text: f"[{text}]"),
    st.integers(-1, 2**33).flatmap(lambda number: st.sampled_from([str(number), hex(number), f"0{number:o}"])),
    st.lists(st.integers(0, 300), min_size=1, max_size=5).map(lambda parts: ".".join(map(str, parts))),
    st.lists(st.integers(0, 300), min_size=1, max_size=5).map(lambda parts: ".".join(map(hex, parts))),
    st.sampled_from(["a.example.com", "localhost", "127.0.0.1.nip.io", "A.B", "xn--a", "a.example.com."]),
)
PLAIN = st.builds("https://{}{}".format, HOSTS, st.sampled_from(["/", "/a.png?x"]))
WILD = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "HTTPS://", "//", "https:", "ftp://", "https:\\\\", " https://"]),
    st.sampled_from(["", "", "", "user@", "a.example.com@", "a:b@", "a.example.com\\@", "%40"]),
    HOSTS,
    st.sampled_from(["", "", ":443", ":80", ":22", ":", ":0443", ":70000"]),
    st.sampled_from(["/", "/a.png", "", "?x", "#x", "/@b", "\\b", "/\r\nx: y", "\n", "\u3002com/", "/ä"]),
    st.text(max_size=5),
)
URLS = st.one_of(PLAIN, st.just("https://a.example.com/"), WILD, st.text(max_size=30))


class _Nowhere:
    """A writer that leads nowhere."""

    transport: Any

    def __init__(self) -> None:
        self.transport = self
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data

    def abort(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("hosts", [(), ("a.example.com", "127.0.0.1")], ids=["any host", "named hosts"])
@pytest.mark.parametrize("allowed", [(), ("10.0.0.0/8",)], ids=["public", "a private network"])
@settings(max_examples=max(500, settings().max_examples))
@given(
    url=URLS,
    locations=st.lists(URLS, max_size=3),
    answers=st.lists(st.lists(st.just(PUBLIC) | ADDRESSES, min_size=1, max_size=3), max_size=4),
)
@example(url="https://a.example.com/", locations=["https://127.0.0.1/"], answers=[[PUBLIC]])
@example(url="https://a.example.com/", locations=["/x"], answers=[[PUBLIC], ["10.0.0.1"]])
def test_no_url_leads_to_a_connection_outside_what_is_allowed(
    hosts: tuple[str, ...], allowed: tuple[str, ...], url: str, locations: list[str], answers: list[list[str]]
) -> None:
    """Whatever is asked for, whatever names stand for, and wherever redirects lead."""
    opened: list[tuple[str, int, str]] = []
    sent: list[_Nowhere] = []
    said: list[str] = []
    waiting, redirects = list(answers), list(locations)

    async def resolve(host: str, port: int) -> list[str]:
        assert "." in host or host == "localhost" or not host[0].isdigit()
        found = waiting.pop(0) if waiting else []
        said.extend(found)
        return found

    async def connect(address: str, port: int, tls: ssl.SSLContext | None, name: str) -> Pipe:
        opened.append((address, port, name))
        reader = asyncio.StreamReader()
        location = (
            redirects.pop(0).encode("latin-1", "ignore").replace(b"\r", b"").replace(b"\n", b"") if redirects else b"/"
        )
        reader.feed_data(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: " + location + b"\r\n\r\n")
        sent.append(_Nowhere())
        return reader, sent[-1]  # type: ignore[return-value]  # all that is used of a writer

    policy = FetchPolicy(UrlPolicy("fetch", hosts), networks(allowed))
    fetcher = Fetcher(Hop(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), resolve, connect), concurrent=1)
    with pytest.raises(FetchFault):
        asyncio.run(fetcher.fetch(url, "image", policy))
    for (address, port, name), writer in zip(opened, sent, strict=True):
        reached = ip_address(address)
        private = isinstance(reached, IPv4Address) and any(reached in network for network in policy.allowed)
        assert private or (reached.is_global and not reached.is_multicast), address
        assert port in (443, 80)
        assert address in said or address == name
        assert not hosts or name in hosts
        assert writer.sent.count(b"\r\n\r\n") == 1
        assert writer.sent.startswith(b"GET /")
        assert b"\r\nhost: " in writer.sent
