"""Images by URL and images too large, through the whole product: the official client, the gateway's own process, a web
host with TLS, and the local SageMaker behind."""

from __future__ import annotations

import base64
import contextlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from deploy.local.engine import build
from tests.media.web import issue
from tests.support.pictures import JPEG, PNG_1, data_url, noise, opened, photo, png_header, saved
from tests.support.stack import KEY, Gateway, Local, config, model, running_gateway, running_local

MAX_SENT = 300_000
MAX_RECEIVED = 3_000_000
WAIT_S = 10.0
PARAM = "messages[0].content[1].image_url.url"


@dataclass
class Host:
    """A web host on this machine, with TLS."""

    port: int = 0
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    waiting: threading.Event = field(default_factory=threading.Event)
    """Somebody asks for /wait."""
    left: threading.Event = field(default_factory=threading.Event)
    """Whoever did has left."""

    def url(self, path: str, host: str = "localhost") -> str:
        return f"https://{host}:{self.port}{path}"

    def put(self, path: str, body: bytes, content_type: str = "image/png", status: int = 200, **headers: str) -> str:
        """Let a page be and return its URL."""
        self.pages[path] = (status, {"content-type": content_type, **headers}, body)
        return self.url(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[Host]:
    here = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            if self.path == "/wait":
                here.waiting.set()
                self.connection.settimeout(WAIT_S)
                with contextlib.suppress(ConnectionError):
                    self.connection.recv(1)
                here.left.set()
                return
            status, headers, body = here.pages.get(self.path, (404, {}, b"no such page"))
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Tests need no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = issue(folder).server("good").wrap_socket(server.socket, server_side=True)
    here.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield here
    server.shutdown()
    server.server_close()
    thread.join(WAIT_S)


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with running_local({"lmi": build("lmi27"), "vllm": build("vllm")}) as local:
        yield local


@pytest.fixture(scope="module")
def gateway(local: Local, host: Host, folder: Path) -> Iterator[Gateway]:
    here = {"allow_private": ["127.0.0.0/8", "::1/128"], "ports": [host.port], "fetch_timeout_s": 5}
    lmi: dict[str, Any] = {"modalities": ["text", "image"], "deployment": {"endpoint": "lmi"}}
    models = [
        model("lmi", "lmi", "27", media=here, unary="invoke", **lmi),
        model("vllm", "vllm", "0.33", media=here, modalities=["text", "image"]),
        model("careful", "lmi", "27", media={"ports": [host.port]}, **lmi),
        model("strict", "lmi", "27", media={**here, "scale_down": False}, **lmi),
        model("named", "lmi", "27", media=here, image_hosts=["images.example.com"], **lmi),
        model("hasty", "lmi", "27", media={**here, "fetch_timeout_s": 0.2}, **lmi),
        model("text", "lmi", "27", deployment={"endpoint": "lmi"}),
    ]
    settings = {"max_body_bytes": MAX_RECEIVED, "max_upstream_body_bytes": MAX_SENT}
    trusted = {"SSL_CERT_FILE": str(folder / "authority.pem")}
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    with running_gateway(config(local.url, *models, **settings), **trusted, **proxies) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(params=["lmi", "vllm"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class Asking:
    client: openai.OpenAI
    stream: bool

    def __call__(self, model: str, *urls: str, text: str = "What is this?") -> str:
        parts: Any = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in urls]
        messages: Any = [{"role": "user", "content": [{"type": "text", "text": text}, *parts]}]
        if self.stream:
            chunks = self.client.chat.completions.create(model=model, messages=messages, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        return self.client.chat.completions.create(model=model, messages=messages).choices[0].message.content or ""


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def ask(request: pytest.FixtureRequest, client: openai.OpenAI) -> Asking:
    return Asking(client, request.param)


def metric(gateway: Gateway, name: str) -> float:
    text = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
    found = re.search(rf"^{re.escape(name)} (.+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_image_by_url_is_seen(ask: Asking, host: Host, local: Local, dialect: str) -> None:
    png, jpeg = saved(noise(64, 48), "PNG"), saved(noise(30, 20), "JPEG")
    urls = host.put("/a.png", png), host.put("/b", jpeg, "binary/octet-stream"), data_url("png", PNG_1)
    assert ask(dialect, *urls) == (
        'I see 3 images: image/png 64x48, image/jpeg 30x20, image/png 1x1. You wrote "What is this?".'
    )
    (message,) = local.last_body()["messages"]
    assert [part.get("image_url") for part in message["content"]] == [
        None,
        {"url": data_url("png", png), "detail": "low"},
        {"url": data_url("jpeg", jpeg), "detail": "low"},
        {"url": data_url("png", PNG_1), "detail": "low"},
    ]


def test_the_host_sees_a_plain_request(ask: Asking, host: Host) -> None:
    ask("lmi", host.put(f"/plain-{ask.stream}.png", PNG_1))
    path, headers = host.asked[-1]
    assert path == f"/plain-{ask.stream}.png"
    assert headers == {
        "host": f"localhost:{host.port}",
        "user-agent": "lmi-gateway",
        "accept": "image/*, audio/*, video/*, */*;q=0.1",
        "accept-encoding": "identity",
        "connection": "close",
    }


def test_an_image_is_fetched_once_for_a_conversation(ask: Asking, host: Host, gateway: Gateway) -> None:
    url = host.put(f"/once-{ask.stream}.png", PNG_1)
    before = metric(gateway, 'gateway_media_cache_total{result="hit"}')
    for _ in range(3):
        ask("vllm", url)
    assert [path for path, _ in host.asked].count(f"/once-{ask.stream}.png") == 1
    assert metric(gateway, 'gateway_media_cache_total{result="hit"}') == before + 2


def test_redirects_are_followed(ask: Asking, host: Host) -> None:
    host.put("/to", PNG_1)
    url = host.put("/from", b"", "text/html", 302, location=f"https://127.0.0.1:{host.port}/to")
    assert ask("lmi", url).startswith("I see 1 image: image/png 1x1.")


def refused(
    ask: Asking, local: Local, model: str, *urls: str, **options: Any
) -> tuple[int, str | None, str | None, str]:
    before = len(local.calls)
    with pytest.raises(openai.APIStatusError) as caught:
        ask(model, *urls, **options)
    assert len(local.calls) == before, "refused before anything was sent on"
    error = caught.value
    assert isinstance(error.body, dict)
    return error.status_code, error.code, error.param, error.body["message"]


def test_what_is_inside_is_neither_fetched_nor_told_of(ask: Asking, host: Host, local: Local) -> None:
    host.put("/secret.png", PNG_1)
    asked = len(host.asked)
    inside = [host.url("/secret.png"), host.url("/secret.png", "127.0.0.1"), host.url("/secret.png", "2130706433")]
    closed = ["https://127.0.0.1/", "https://169.254.169.254/latest/meta-data/", "https://[fd00:ec2::254]/"]
    answers = {refused(ask, local, "careful", url) for url in [*inside, *closed]}
    assert answers == {
        (
            400,
            "invalid_image_url",
            PARAM,
            f"{PARAM} could not be fetched: it must be a public URL that answers a GET with a PNG, JPEG, GIF or WebP "
            "image.",
        )
    }
    assert len(host.asked) == asked


def test_a_redirect_inside_is_not_followed(ask: Asking, host: Host, local: Local) -> None:
    url = host.put("/away", b"", "text/html", 302, location="https://169.254.169.254/latest/meta-data/")
    assert refused(ask, local, "lmi", url)[:3] == (400, "invalid_image_url", PARAM)


@pytest.mark.parametrize(
    ("content_type", "body", "status", "words"),
    [
        pytest.param("text/html", b"<html>", 200, "leads to no PNG, JPEG, GIF or WebP image", id="a page"),
        pytest.param("image/png", b"<svg/>", 200, "leads to no PNG, JPEG, GIF or WebP image", id="an svg"),
        pytest.param("image/png", PNG_1, 404, "could not be fetched", id="a 404"),
        pytest.param("image/png", png_header(30_000, 30_000), 200, "has 30000 × 30000 pixels", id="a bomb"),
    ],
)
def test_what_is_no_image_is_refused(
    ask: Asking, host: Host, local: Local, content_type: str, body: bytes, status: int, words: str
) -> None:
    url = host.put("/none", body, content_type, status, **{"cache-control": "no-store"})
    got, code, param, message = refused(ask, local, "lmi", url)
    assert (got, param) == (400, PARAM)
    assert code == ("invalid_value" if "pixels" in words else "invalid_image_url")
    assert words in message


def test_a_bomb_in_a_data_url_is_refused(ask: Asking, local: Local, dialect: str) -> None:
    assert refused(ask, local, dialect, data_url("png", png_header(30_000, 30_000))) == (
        400,
        "invalid_value",
        PARAM,
        f"{PARAM} has 30000 × 30000 pixels, more than the 50000000 that this model takes.",
    )


def test_a_host_that_is_not_named_is_refused(ask: Asking, host: Host, local: Local) -> None:
    assert refused(ask, local, "named", host.put("/a.png", PNG_1))[:3] == (400, "invalid_value", PARAM)


def test_a_slow_host_is_given_up(ask: Asking, host: Host, local: Local) -> None:
    assert refused(ask, local, "hasty", host.url("/wait")) == (
        400,
        "invalid_image_url",
        PARAM,
        f"{PARAM} could not be fetched within 0.2 seconds.",
    )


def test_a_caller_who_leaves_stops_the_fetch(gateway: Gateway, host: Host, local: Local) -> None:
    for stream in (False, True):
        host.waiting.clear()
        host.left.clear()
        cancelled = metric(gateway, 'gateway_media_fetches_total{outcome="cancelled"}')
        before = len(local.calls)
        hasty = openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=0.5)
        with hasty, pytest.raises(openai.APITimeoutError):
            Asking(hasty, stream)("lmi", host.url("/wait"))
        assert host.waiting.is_set()
        assert host.left.wait(WAIT_S)
        until(lambda: metric(gateway, 'gateway_media_fetches_total{outcome="cancelled"}') == cancelled + 1)  # noqa: B023 - run at once
        assert len(local.calls) == before


# Made to fit

LARGE = saved(photo(600, 400), "PNG")


def test_an_image_that_is_too_large_is_scaled_down(ask: Asking, local: Local, gateway: Gateway, dialect: str) -> None:
    assert len(LARGE) > 500_000
    before = metric(gateway, f'gateway_media_scaled_total{{model="{dialect}"}}')
    answer = ask(dialect, data_url("png", PNG_1), data_url("png", LARGE), data_url("jpeg", JPEG))
    seen = re.fullmatch(r"I see 3 images: image/png 1x1, image/jpeg (\d+)x(\d+), image/jpeg 800x600\. .*", answer)
    assert seen is not None, answer
    call = local.last_call()
    assert len(call.body) <= MAX_SENT
    url = local.last_body()["messages"][0]["content"][2]["image_url"]["url"]
    image = opened(base64.b64decode(url.partition(",")[2]))
    assert image.size == (int(seen[1]), int(seen[2]))
    assert abs(image.width / image.height - 1.5) < 0.02
    assert metric(gateway, f'gateway_media_scaled_total{{model="{dialect}"}}') == before + 1


def test_one_that_was_fetched_is_scaled_down_too(ask: Asking, host: Host, local: Local) -> None:
    assert ask("lmi", host.put("/large.png", LARGE)).startswith("I see 1 image: image/jpeg ")
    assert len(local.last_call().body) <= MAX_SENT


def test_where_scaling_is_off_it_is_refused_with_all_sizes(ask: Asking, local: Local) -> None:
    url = data_url("png", LARGE)
    status, code, param, message = refused(ask, local, "strict", url)
    assert (status, code, param) == (413, "request_too_large", PARAM)
    assert re.fullmatch(
        rf"The request is \d+ bytes long as it would be sent on, and at most {MAX_SENT} can be\."
        rf" The largest of its media: {re.escape(PARAM)} with {len(url)} bytes\.",
        message,
    )


def test_text_that_is_too_long_is_refused(ask: Asking, local: Local) -> None:
    status, code, param, message = refused(ask, local, "text", text="x" * MAX_SENT)
    assert (status, code, param) == (413, "request_too_large", None)
    assert message.endswith(f"as it would be sent on, and at most {MAX_SENT} can be.")


def test_nothing_of_it_is_in_the_log(gateway: Gateway) -> None:
    text = "".join(gateway.log)
    assert not [line for line in gateway.log if "error" in line.lower()]
    assert "secret" not in text
    assert "base64" not in text


def test_the_hosts_certificate_was_checked(host: Host) -> None:
    """The tests' own authority had to be named for the gateway: nobody else would trust that host."""
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(host.url("/a.png"), verify=ssl.create_default_context(), trust_env=False)
