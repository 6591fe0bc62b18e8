"""One request: whom it connects to, what it sends, and what it makes of what comes back."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable

import pytest

from adapters.openai.urls import parse
from gateway.media.addresses import networks
from gateway.media.faults import FetchFault, Outcome
from gateway.media.hop import MAX_HEAD_BYTES, Answer, Hop, connect
from gateway.media.resolver import Resolver
from tests.media.web import PUBLIC, PUBLIC_6, Certificates, Connection, Talk, Web, page
from tests.sagemaker.peer import anyio_backend, until

__all__ = ["anyio_backend"]  # the fixture: both event loops
pytestmark = pytest.mark.anyio

IMAGE = "https://img.example.com/a.png"
MiB = 1_048_576


async def get(
    web: Web | Hop,
    url: str = IMAGE,
    *,
    allowed: tuple[str, ...] = (),
    wanted: Callable[[Answer], bool] = lambda answer: True,
    max_bytes: int = MiB,
) -> Answer:
    remote = parse(url)
    assert remote is not None
    hop = web.hop() if isinstance(web, Web) else web
    async with asyncio.timeout(10):
        return await hop.get(remote, allowed=networks(allowed), wanted=wanted, max_bytes=max_bytes)


async def failing(web: Web | Hop, url: str = IMAGE, **options: int) -> tuple[Outcome, str]:
    with pytest.raises(FetchFault) as caught:
        await get(web, url, **options)  # type: ignore[arg-type]  # a test's options
    return caught.value.outcome, caught.value.detail


# Whom it connects to


async def test_a_public_address_is_connected_to_by_the_name_that_was_asked_for(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, page(b"hello", "image/png", etag='"x"'))
        answer = await get(web)
    assert (answer.status, answer.body, answer.headers["etag"]) == (200, b"hello", '"x"')
    assert web.lookups == ["img.example.com"]
    assert web.connections == [Connection(PUBLIC, 443, "img.example.com")]
    assert web.asked_for == ["img.example.com"]


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(["127.0.0.1"], id="this machine"),
        pytest.param(["169.254.169.254"], id="metadata"),
        pytest.param(["fd00:ec2::254"], id="metadata by IPv6"),
        pytest.param(["10.0.0.1"], id="a private one"),
        pytest.param(["::ffff:93.184.216.34"], id="a mapped one"),
        pytest.param([PUBLIC, "10.0.0.1"], id="a public one first"),
        pytest.param(["10.0.0.1", PUBLIC], id="a public one last"),
        pytest.param([PUBLIC, PUBLIC_6, "fe80::1%eth0", PUBLIC], id="in between"),
    ],
)
async def test_a_name_with_any_address_inside_is_not_connected_to_at_all(
    certificates: Certificates, addresses: list[str]
) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, page(b"secret"), *addresses)
        assert await failing(web) == (Outcome.REFUSED, "an address that may not be connected to")
    assert web.connections == []


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]",
     "169.254.169.254", "[fd00:ec2::254]", "0", "10.0.0.1", "100.64.0.1"],
)  # fmt: skip
async def test_an_address_in_any_notation_is_judged_without_asking_anybody(
    certificates: Certificates, host: str
) -> None:
    async with Web(certificates) as web:
        assert await failing(web, f"https://{host}/a.png") == (
            Outcome.REFUSED,
            "an address that may not be connected to",
        )
    assert (web.lookups, web.connections) == ([], [])


async def test_a_public_address_in_the_url_must_have_a_certificate_for_it(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        web.pages[f"https://{PUBLIC}/a"] = page(b"hello")
        assert (await get(web, f"https://{PUBLIC}/a")).body == b"hello"
        assert await failing(web, "https://93.184.216.35/a") == (
            Outcome.UNREACHABLE,
            "no connection: SSLCertVerificationError",
        )
    assert (web.lookups, web.asked_for) == ([], [None, None])


async def test_a_name_is_looked_up_once_and_connected_to_just_where_it_was_said_to_be(
    certificates: Certificates,
) -> None:
    """Rebinding: whoever looked the name up again would be led inside."""
    async with Web(certificates) as web:
        web.put(IMAGE, page(b"hello"), "127.0.0.1")
        web.later["img.example.com"] = [[PUBLIC]]
        assert (await get(web)).body == b"hello"
        assert (web.lookups, web.connections) == (["img.example.com"], [Connection(PUBLIC, 443, "img.example.com")])
        assert (await failing(web))[0] is Outcome.REFUSED  # the second answer is judged anew
    assert len(web.connections) == 1


async def test_the_next_address_is_tried_where_one_does_not_answer(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, page(b"hello"), PUBLIC_6, PUBLIC)
        web.refusing = {PUBLIC_6}
        assert (await get(web)).body == b"hello"
        assert [connection.address for connection in web.connections] == [PUBLIC_6, PUBLIC]
        web.refusing = {PUBLIC, PUBLIC_6}
        assert await failing(web) == (Outcome.UNREACHABLE, "no connection: ConnectionRefusedError")


async def test_names_that_do_not_exist(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        assert await failing(web) == (Outcome.UNREACHABLE, "no such host: OSError")
        web.names["img.example.com"] = []
        assert await failing(web) == (Outcome.REFUSED, "no address")


@pytest.mark.parametrize("certificate", ["elsewhere", "expired"])
async def test_a_certificate_that_cannot_be_trusted_ends_it_before_a_byte(
    certificates: Certificates, certificate: str
) -> None:
    async with Web(certificates, certificate) as web:
        web.put(IMAGE, page(b"hello"))
        assert await failing(web) == (Outcome.UNREACHABLE, "no connection: SSLCertVerificationError")
    assert web.asked == []


async def test_a_host_that_speaks_no_tls_is_never_spoken_to_in_plain_text(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, page(b"hello"))
        web.plain_only = True
        assert (await failing(web))[0] is Outcome.UNREACHABLE
    assert web.asked == []


async def test_plain_http_goes_to_its_own_port(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        web.put("http://img.example.com/a", page(b"plain"))
        assert (await get(web, "http://img.example.com/a")).body == b"plain"
    assert web.connections == [Connection(PUBLIC, 80, None)]


async def test_a_real_connection_to_this_machine_where_it_is_allowed(certificates: Certificates) -> None:
    """Nothing is faked here: the system's names, the system's sockets."""
    async with Web(certificates) as web:
        port = web.port(tls=True)
        hop = Hop(certificates.client(), Resolver())
        for host in ("127.0.0.1", "localhost"):
            url = f"https://{host}:{port}/a"
            web.pages[url] = page(b"hello")
            assert (await get(hop, url, allowed=("127.0.0.0/8", "::1/128"))).body == b"hello"
            assert await failing(hop, url) == (Outcome.REFUSED, "an address that may not be connected to")
        assert len(web.asked) == 2


async def test_a_connection_that_was_cut_short_leaves_no_socket_behind(certificates: Certificates) -> None:

    async def cut_short(web: Web, turns: int) -> None:
        port = web.port(tls=False)
        task = asyncio.create_task(connect("127.0.0.1", port, ssl.create_default_context(), "localhost"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)

    async with Web(certificates) as web:
        await cut_short(web, 1)  # the loop opens what it needs itself
        before = set(os.listdir("/dev/fd"))
        for turns in (1, 2, 3, 4, 5):
            await cut_short(web, turns)
        await until(lambda: set(os.listdir("/dev/fd")) <= before)


# What it sends


async def test_nothing_of_the_gateways_own_goes_along(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with Web(certificates) as web:
        web.put("https://img.example.com/a%20b?x=/../y", page(b"hello", set_cookie="a=b"))
        for _ in range(2):
            await get(web, "https://img.example.com/a%20b?x=/../y")
    assert web.asked[0] == web.asked[1]
    assert web.asked[0].line == "GET /a%20b?x=/../y HTTP/1.1"
    assert web.asked[0].headers == {
        "host": "img.example.com",
        "user-agent": "lmi-gateway",
        "accept": "image/*, audio/*, video/*, */*;q=0.1",
        "accept-encoding": "identity",
        "connection": "close",
    }


# What comes back


def sending(*pieces: bytes) -> Callable[[Talk], object]:
    async def send(talk: Talk) -> None:
        for piece in pieces:
            await talk.send(piece)

    return send


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        pytest.param([b"HTTP/1.1 200 OK\r\n", b"content-length: 5\r\n\r\nhe", b"llo"], b"hello", id="in pieces"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nx: y\r\n\r\n"],
            b"hello",
            id="chunked, with a trailer",
        ),
        pytest.param([b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"], b"hello", id="until the end"),
        pytest.param([b"HTTP/1.0 200 OK\r\n\r\nhello"], b"hello", id="http/1.0"),
        pytest.param(
            [b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"],
            b"hello",
            id="after early hints",
        ),
        pytest.param([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], b"", id="nothing"),
    ],
)
async def test_an_answer_in_any_form(certificates: Certificates, pieces: list[bytes], body: bytes) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, sending(*pieces))  # type: ignore[arg-type]  # an async function
        answer = await get(web)
    assert (answer.status, answer.body) == (200, body)
    assert "link" not in answer.headers
    assert "x" not in answer.headers


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"SSH-2.0-OpenSSH_9.6\r\n"], id="another protocol"),
        pytest.param([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"], id="cut short"),
        pytest.param([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"], id="no last chunk"),
        pytest.param([b"HTTP/1.1 200 OK\r\ncontent-le"], id="cut in its head"),
        pytest.param([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"], id="two lengths"),
        pytest.param([b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello"], id="a negative length"),
        pytest.param([b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"], id="upgrade"),
        pytest.param([b"HTTP/1.1 200 OK\r\n" + b"a: " + b"b" * MAX_HEAD_BYTES * 2], id="a head without end"),
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000], id="continue without end"),
    ],
)
async def test_what_is_no_whole_answer_is_none(certificates: Certificates, pieces: list[bytes]) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, sending(*pieces))  # type: ignore[arg-type]  # an async function
        assert (await failing(web))[0] is Outcome.UNREACHABLE


async def test_what_announces_too_much_is_not_read(certificates: Certificates) -> None:
    gone = asyncio.Event()

    async def announce(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n")
        await talk.gone()
        gone.set()

    async with Web(certificates) as web:
        web.put(IMAGE, announce)
        assert await failing(web, max_bytes=MiB) == (Outcome.TOO_LARGE, "by its content-length")
        await asyncio.wait_for(gone.wait(), 10)


async def test_what_goes_on_and_on_is_left(certificates: Certificates) -> None:
    sent = 0

    async def flood(talk: Talk) -> None:
        nonlocal sent
        await talk.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent < 200 * MiB:
            await talk.send(bytes(65_536))
            sent += 65_536

    async with Web(certificates) as web:
        web.put(IMAGE, flood)
        assert await failing(web, max_bytes=MiB) == (Outcome.TOO_LARGE, "by its body")
    assert sent < 20 * MiB


async def test_just_as_much_as_allowed_passes(certificates: Certificates) -> None:
    async with Web(certificates) as web:
        web.put(IMAGE, page(bytes(MiB)))
        assert len((await get(web, max_bytes=MiB)).body) == MiB


async def test_a_body_that_nobody_wants_is_not_waited_for(certificates: Certificates) -> None:
    async def stall(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\n")
        await talk.gone()

    async with Web(certificates) as web:
        web.put(IMAGE, stall)
        answer = await get(web, wanted=lambda answer: answer.status == 200)
    assert (answer.status, answer.body) == (404, b"")
