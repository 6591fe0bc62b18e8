"""`lmi-gateway dev`: two processes that start, live and end together. Most tests put small scripts in their place."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from aiohttp import web
from click.testing import CliRunner

from deploy.local import ContainerRequest
from deploy.local.engine import build
from deploy.local.engine import dialect as engine_dialect
from gateway import dev
from gateway.auth.keys import digest
from gateway.cli import main as command_line
from gateway.config.load import parse

ROOT = Path(__file__).parents[1]
BOUND_S = 60
LAST_LINE = "Ctrl-C ends both.\n"

DRIVER = """
import sys
from gateway import dev
port, local, gateway = sys.argv[1:]
python = [sys.executable, "-c"]
try:
    dev.main("127.0.0.1", int(port), sys.stdout, dev.Plan(), local=[*python, local], gateway=[*python, gateway])
except dev.DemoFailed as error:
    sys.exit(str(error))
"""

# The local SageMaker: says where it is, lives until a signal, and ends with 4 if anyone connects.
LOCAL = """
import json, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(json.dumps({"event": "ready", "url": "http://127.0.0.1:%d" % listener.getsockname()[1]}), flush=True)
listener.accept()
sys.exit(4)
"""
LOCAL_THAT_DIES = "import sys; sys.exit(5)"
LOCAL_THAT_TALKS_NONSENSE = "import signal; print('hello', flush=True); signal.pause()"

# The gateway: answers probes on the port of its configuration, repeats the local one's address, ends with 3 if told to.
GATEWAY = """
import http.server, os, pathlib, signal, sys
from gateway.config.load import load
config = load(pathlib.Path(sys.argv[sys.argv.index("--config") + 1]), os.environ)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(3)
        self.send_response(200)
        self.end_headers()
        if self.path != "/readyz":
            self.wfile.write(config.settings.sagemaker_endpoint_url.encode())
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer((config.settings.host, config.settings.port), Handler).serve_forever()
"""
GATEWAY_DEAF = (
    "import signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: print('deaf', file=sys.stderr, flush=True))\n" + GATEWAY
)
GATEWAY_THAT_DIES = "import sys; sys.exit('the gateway says why')"


class Running:
    """A demo process, and what it has printed."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        self.printed = ""

    def until(self, stream: IO[str] | None, last: str) -> str:
        """Return what comes on `stream` up to the line `last`, or to the end of the processes."""
        assert stream is not None
        text = ""
        for line in stream:
            text += line
            if line == last:
                break
        return text

    def ready(self) -> str:
        """Return the instructions."""
        self.printed = self.until(self.process.stdout, LAST_LINE)
        assert self.printed.endswith(LAST_LINE), self.process.communicate(timeout=BOUND_S)
        return self.printed

    def base_url(self) -> str:
        found = re.search(r"ready: (\S+)", self.printed)
        assert found
        return found[1]

    def ended(self) -> tuple[int, str]:
        """Return exit code and the rest of stderr, whose end is the end of all processes: each of them holds it."""
        _, err = self.process.communicate(timeout=BOUND_S)
        return self.process.returncode, err


@pytest.fixture
def demos() -> Iterator[list[Running]]:
    started: list[Running] = []
    yield started
    for demo in started:
        if demo.process.poll() is None:
            demo.process.terminate()
        demo.process.communicate(timeout=BOUND_S)


def start(demos: list[Running], local: str = LOCAL, gateway: str = GATEWAY, port: int = 0) -> Running:
    demos.append(Running([sys.executable, "-c", DRIVER, str(port), local, gateway]))
    return demos[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_both(demos: list[Running], number: signal.Signals) -> None:
    demo = start(demos)
    demo.ready()
    demo.process.send_signal(number)
    assert demo.ended() == (0, "")


def test_a_second_signal_kills_what_does_not_end(demos: list[Running]) -> None:
    demo = start(demos, gateway=GATEWAY_DEAF)
    demo.ready()
    demo.process.send_signal(signal.SIGINT)
    assert demo.until(demo.process.stderr, "deaf\n") == "deaf\n"
    demo.process.send_signal(signal.SIGINT)
    assert demo.ended() == (0, "")


def test_the_end_of_the_gateway_ends_the_local_sagemaker(demos: list[Running]) -> None:
    demo = start(demos)
    demo.ready()
    with pytest.raises((URLError, ConnectionError)):
        urlopen(f"{demo.base_url()}/die", timeout=BOUND_S)
    assert demo.ended() == (1, "the gateway ended by itself, with exit code 3\n")


def test_the_end_of_the_local_sagemaker_ends_the_gateway(demos: list[Running]) -> None:
    demo = start(demos)
    demo.ready()
    with urlopen(f"{demo.base_url()}/url", timeout=BOUND_S) as reply:
        port = int(reply.read().rpartition(b":")[2])
    socket.create_connection(("127.0.0.1", port), timeout=BOUND_S).close()
    assert demo.ended() == (1, "the local SageMaker ended by itself, with exit code 4\n")


@pytest.mark.parametrize(
    ("local", "gateway", "error"),
    [
        pytest.param(
            LOCAL_THAT_DIES, GATEWAY, "the local SageMaker ended by itself, with exit code 5\n", id="no local"
        ),
        pytest.param(
            LOCAL_THAT_TALKS_NONSENSE, GATEWAY, "the local SageMaker did not say where it listens\n", id="nonsense"
        ),
        pytest.param(
            LOCAL,
            GATEWAY_THAT_DIES,
            "the gateway says why\nthe gateway ended by itself, with exit code 1\n",
            id="no gateway",
        ),
    ],
)
def test_what_cannot_start_is_told(demos: list[Running], local: str, gateway: str, error: str) -> None:
    assert start(demos, local, gateway).ended() == (1, error)


def test_a_port_in_use_is_one_line(demos: list[Running]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = start(demos, LOCAL_THAT_DIES, GATEWAY_THAT_DIES, port)
        assert demo.ended() == (
            1,
            f"cannot listen on 127.0.0.1:{port}: Address already in use; --port chooses another\n",
        )


def test_waiting_for_a_process_has_a_bound() -> None:
    async def main() -> None:
        processes = dev._Processes()
        async with processes.run("gateway", [sys.executable, "-c", "import signal; signal.pause()"]):
            with pytest.raises(dev.DemoFailed, match=r"^the gateway was not ready within 0\.05 s$"):
                await processes.unless_over(asyncio.Event().wait(), within_s=0.05)

    asyncio.run(main())


ALONE = "import signal, sys\nprint(sys.argv[1:], flush=True)\nwhile True: signal.pause()"
ALONE_AND_DEAF = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{ALONE}"


@pytest.mark.parametrize(
    ("script", "number"),
    [
        pytest.param(ALONE, signal.SIGTERM, id="one that ends when told to"),
        pytest.param(ALONE_AND_DEAF, signal.SIGKILL, id="one that does not"),
    ],
)
def test_a_child_ends_when_its_input_does(tmp_path: Path, script: str, number: signal.Signals) -> None:
    Path(tmp_path, "child_module.py").write_text(script)
    run = "import sys; from gateway import dev; dev.STOP_S = 0.1; dev.run_child('child_module', sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", run, "one", "two"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "['one', 'two']\n"
        child.stdin.close()
        assert child.wait(BOUND_S) == -number


# What the processes are given

REAL = dev.Shown("my/model", "container", "vllm-0.11", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("plan", "arguments"),
    [
        pytest.param(
            dev.Plan(first_token_delay_s=0.15, token_delay_s=0.02),
            [
                *("--first-token-delay", "0.15", "--token-delay", "0.02"),
                *("--endpoint", "demo-lmi=lmi27,context_length=8192"),
                *("--endpoint", "demo-vllm=vllm,context_length=8192"),
            ],
            id="the demo models",
        ),
        pytest.param(
            dev.Plan((REAL,)),
            ["--first-token-delay", "0", "--token-delay", "0", "--container", "container=http://127.0.0.1:9"],
            id="a container",
        ),
    ],
)
def test_the_local_sagemaker_gets_the_pair_and_the_endpoints(plan: dev.Plan, arguments: list[str]) -> None:
    made = dev.Secrets()
    pair = f"{made.access_key_id}:{made.secret_access_key}"
    first = ("local", "--port", "0", "--region", "us-east-1", "--access-key", pair)
    assert dev.local_command(("local",), made, plan) == (*first, *arguments)


def test_the_gateway_gets_nothing_of_the_users_own_aws() -> None:
    made = dev.Secrets()
    environ = {"PATH": "/bin", "AWS_PROFILE": "mine", "AWS_SESSION_TOKEN": "mine", "LMI_GATEWAY_PORT": "1"}
    assert dev.gateway_environment(environ, made) == {
        "PATH": "/bin",
        "AWS_ACCESS_KEY_ID": made.access_key_id,
        "AWS_SECRET_ACCESS_KEY": made.secret_access_key,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def test_the_demos_configuration_is_good_and_holds_no_key() -> None:
    made = dev.Secrets()
    text = dev.demo_config("::1", 8080, 8081, "http://127.0.0.1:9", made, [*dev.Plan().models, REAL])
    config = parse(text.encode(), "gateway.yaml", {})
    assert (config.settings.host, config.settings.port) == ("::1", 8080)
    assert config.settings.sagemaker_endpoint_url == "http://127.0.0.1:9"
    assert [(key.id, key.digest, key.models) for key in config.keys] == [("demo", digest(made.key), ("*",))]
    settings = config.settings
    assert (settings.admin_host, settings.admin_port) == ("::1", 8081)
    assert settings.admin_key_digest == digest(made.console_key)
    assert made.key not in text
    assert made.console_key not in text
    assert [(model.name, model.modalities, model.context_length) for model in config.models] == [
        ("demo-lmi", ("text", "image"), 8192),
        ("demo-vllm", ("text", "image"), 8192),
        ("my/model", ("text", "image", "audio", "video"), None),
    ]
    assert [(each.endpoint, each.container, each.version) for model in config.models for each in model.deployments] == [
        ("demo-lmi", "lmi", "27"),
        ("demo-vllm", "vllm", "0.33"),
        ("container", "vllm", "0.11"),
    ]


@pytest.mark.parametrize(
    ("dialect", "container"),
    [
        ("lmi15", ("lmi", "15")),
        ("lmi28", ("lmi", "28")),
        ("vllm-0.11", ("vllm", "0.11")),
        ("vllm-0.27.1", ("vllm", "0.27.1")),
        ("tgi-3.0", ("tgi", "3.0")),
        ("tgi", ("tgi", "3.3")),
        ("vllm", ("vllm", f"{engine_dialect.NEWEST_VLLM[0]}.{engine_dialect.NEWEST_VLLM[1]}")),
    ],
)
def test_a_dialect_is_a_container_and_a_version(dialect: str, container: tuple[str, str]) -> None:
    assert dev.container_of(dialect) == container


@pytest.mark.parametrize(
    "dialect", ["", "lmi", "lmi14", "lmi29", "lmi027", "vllm-", "vllm-0.7", "vllm-1.0", "tgi-", "tgi-4.0", "tgi3"]
)
def test_what_is_no_dialect_is_told(dialect: str) -> None:
    with pytest.raises(
        ValueError, match=r"^expected lmi15 to lmi28, vllm, tgi, or a release such as vllm-0\.11 or tgi-3\.0$"
    ):
        dev.container_of(dialect)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        pytest.param([], ("127.0.0.1", 8080, dev.Plan(first_token_delay_s=0.15, token_delay_s=0.02)), id="nothing"),
        pytest.param(
            ["--port", "0", "--host", "::1", "--first-token-delay", "0", "--token-delay", "1.5"],
            ("::1", 0, dev.Plan(token_delay_s=1.5)),
            id="another pace",
        ),
        pytest.param(
            ["--container", "http://127.0.0.1:9/", "--dialect", "vllm"],
            ("127.0.0.1", 8080, dev.Plan((dev.Shown("container", "container", "vllm", "http://127.0.0.1:9"),))),
            id="a container",
        ),
        pytest.param(
            ["--container", "http://127.0.0.1:9", "--dialect", "vllm-0.11", "--model", "my/model"],
            ("127.0.0.1", 8080, dev.Plan((REAL,))),
            id="a container with a name",
        ),
    ],
)
def test_the_command_line_says_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], shown: tuple[object, ...]
) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(dev, "main", lambda host, port, out, plan: asked.append((host, port, plan)))
    assert CliRunner().invoke(command_line, ["dev", *arguments]).exit_code == 0
    assert asked == [shown]


A_URL = ["--container", "http://127.0.0.1:9"]
DIALECTS = "lmi15 to lmi28, vllm, tgi, or a release such as vllm-0.11 or tgi-3.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(A_URL, f"--container needs --dialect: {DIALECTS}", id="which kind of container"),
        pytest.param(["--dialect", "lmi27"], "--dialect needs --container", id="a dialect of nothing"),
        pytest.param(["--model", "m"], "--model needs --container", id="a name of nothing"),
        pytest.param(
            ["--container", "127.0.0.1:9", "--dialect", "lmi27"],
            "Invalid value for '--container': expected a URL without a path, such as http://127.0.0.1:8081",
            id="no URL",
        ),
        pytest.param(
            [*A_URL, "--dialect", "lmi14"], f"Invalid value for '--dialect': expected {DIALECTS}", id="no dialect"
        ),
        pytest.param(
            [*A_URL, "--dialect", "lmi27", "--model", "a b"],
            "Invalid value for '--model': expected a model name: "
            "a letter or digit, then at most 127 letters, digits or . _ : / @ + -",
            id="no model name",
        ),
        pytest.param(
            [*A_URL, "--dialect", "lmi27", "--token-delay", "0.02"],
            "--token-delay is for the demo models: a container has its pace",
            id="the pace of a container",
        ),
    ],
)
def test_what_does_not_go_together_is_told(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(command_line, ["dev", *arguments])
    assert (result.exit_code, result.output.splitlines()[-1]) == (2, f"Error: {message}")


def test_every_run_makes_its_own_secrets_and_shows_none() -> None:
    one, two = dev.Secrets(), dev.Secrets()
    assert len({one.key, two.key, one.console_key, two.console_key}) == 4
    assert len({one.access_key_id, two.access_key_id, one.secret_access_key}) == 3
    assert repr(one) == "Secrets()"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("localhost", "http://localhost:80"),
    ],
)
def test_the_url_to_paste_can_be_reached(host: str, url: str) -> None:
    assert dev._base_url(host, 80) == url


# The real thing

AT_ONCE = ("--first-token-delay", "0", "--token-delay", "0")
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5Erk"
    "Jggg=="
)
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def real(demos: list[Running], *arguments: str) -> Running:
    demos.append(Running([sys.executable, "-m", "gateway", "dev", "--port", "0", *arguments]))
    return demos[-1]


def block(printed: str, first: str) -> str:
    """Return the paragraph that begins with `first`."""
    found = re.search(rf"^{first}.*?(?=\n\n)", printed, re.DOTALL | re.MULTILINE)
    assert found, printed
    return found[0]


def pasted(command: list[str], text: str | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=BOUND_S, input=text).stdout


def call(demo: Running, path: str, body: dict[str, Any] | None = None) -> bytes:
    """Return what the gateway answers to the key that was printed."""
    key = re.search(r"^Key: +(\S+)$", demo.printed, re.MULTILINE)
    assert key
    headers = {"authorization": f"Bearer {key[1]}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{demo.base_url()}{path}", data, headers), timeout=BOUND_S) as reply:
        return bytes(reply.read())


def message(demo: Running, model: str, content: object, **fields: Any) -> dict[str, Any]:
    """Return the message that answers a chat."""
    body = {"model": model, "messages": [{"role": "user", "content": content}], **fields}
    return dict(json.loads(call(demo, "/v1/chat/completions", body))["choices"][0]["message"])


@pytest.mark.skipif(not shutil.which("curl"), reason="the demo's first snippet is for curl")
def test_the_printed_snippets_work_when_pasted(demos: list[Running]) -> None:
    demo = real(demos, *AT_ONCE)
    printed = demo.ready()
    reply = json.loads(pasted(["bash", "-c", block(printed, "curl http")]))
    assert reply["model"] == "demo-lmi"
    assert reply["choices"][0]["message"]["content"] == "Hello! How can I help you today?"
    # Into Python's prompt, as people do: a blank line ends the loop there.
    counted = pasted([sys.executable, "-i", "-q"], block(printed, "from openai") + "\n\n")
    assert counted == ", ".join(map(str, range(1, 31)))

    console = re.search(r"^Console: (\S+)/console\nIts key: (\S+)$", printed, re.MULTILINE)
    assert console
    with urlopen(f"{console[1]}/console", timeout=BOUND_S) as page:
        assert b"<title>lmi-gateway console</title>" in page.read()
    headers = {"authorization": f"Bearer {console[2]}"}
    with urlopen(Request(f"{console[1]}/admin/about", headers=headers), timeout=BOUND_S) as about:
        assert json.load(about)["url"] == demo.base_url()

    for model in ("demo-lmi", "demo-vllm"):
        shown = json.loads(call(demo, f"/v1/models/{model}"))
        assert (shown["modalities"], shown["context_length"]) == (["text", "image"], 8192)
        (asked,) = message(demo, model, "What is the weather in Rome?", tools=[WEATHER])["tool_calls"]
        assert (asked["function"]["name"], json.loads(asked["function"]["arguments"])) == (
            "get_weather",
            {"city": "Rome"},
        )
        picture = [{"type": "image_url", "image_url": {"url": PIXEL}}]
        assert message(demo, model, picture)["content"] == "I see 1 image: image/png 1x1."

    demo.process.send_signal(signal.SIGINT)
    code, _ = demo.ended()
    assert code == 0


def test_a_killed_demo_leaves_nothing_running(
    demos: list[Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # its folder is all that stays
    demo = real(demos)
    demo.ready()
    demo.process.kill()
    code, _ = demo.ended()
    assert code == -signal.SIGKILL
    with pytest.raises(URLError):
        urlopen(f"{demo.base_url()}/healthz", timeout=BOUND_S)


@contextmanager
def container(dialect: str) -> Iterator[tuple[str, list[Any]]]:
    """Serve a container over HTTP, in a thread; yield its URL and the bodies it was sent."""
    engine, bodies = build(dialect), []

    async def ping(_: web.Request) -> web.Response:
        return web.Response(status=await engine.ping())

    async def invocations(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        headers = {name.lower(): value for name, value in request.headers.items()}
        reply = await engine.invoke(ContainerRequest(await request.read(), headers))
        if isinstance(reply.body, bytes):
            return web.Response(status=reply.status, headers=reply.headers, body=reply.body)
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        await response.prepare(request)
        async for chunk in reply.body:
            await response.write(chunk)
        return response

    async def start() -> web.AppRunner:
        app = web.Application()
        app.add_routes([web.get("/ping", ping), web.post("/invocations", invocations)])
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        runner = asyncio.run_coroutine_threadsafe(start(), loop).result(BOUND_S)
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", bodies
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(BOUND_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(BOUND_S)
        loop.close()


@pytest.mark.parametrize("dialect", ["lmi28", "vllm"])
def test_a_real_container_is_called_through_both(demos: list[Running], dialect: str) -> None:
    with container(dialect) as (url, bodies):
        demo = real(demos, "--container", url, "--dialect", dialect, "--model", "my/model")
        assert f"\nModels: my/model ({dialect} at {url})\n" in demo.ready()
        assert bodies == []
        assert message(demo, "my/model", "Hello")["content"] == "Hello! How can I help you today?"
        body = {"model": "my/model", "messages": [{"role": "user", "content": "count to 3"}], "stream": True}
        events = call(demo, "/v1/chat/completions", body).decode().split("\n\n")
        chunks = [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "1, 2, 3"
        assert {chunk["model"] for chunk in chunks} == {"my/model"}
        assert [sent["messages"][0]["content"] for sent in bodies] == ["Hello", "count to 3"]
        demo.process.terminate()
        assert demo.ended()[0] == 0


# Containers that cannot serve


def start_with(url: str) -> None:
    dev.main("127.0.0.1", 0, io.StringIO(), dev.Plan((dev.Shown("m", "container", "lmi27", url),)))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(
            b"HTTP/1.1 503 Loading\r\ncontent-length: 0\r\n\r\n",
            "GET URL/ping is answered with 503: a container that can serve answers 200",
            id="loading",
        ),
        pytest.param(
            b"SSH-2.0-x\r\n", "no container answers GET URL/ping: what answers is no HTTP server", id="no HTTP"
        ),
        pytest.param(b"", "no container answers GET URL/ping: what answers is no HTTP server", id="hangs up"),
        pytest.param(None, "no container answers GET URL/ping within 0.2 s", id="silent"),
    ],
)
def test_a_container_that_cannot_serve_is_told(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, error: str
) -> None:
    monkeypatch.setattr(dev, "PING_S", 0.2 if answer is None else BOUND_S)
    requests: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            requests.append(connection.recv(1024))
            if answer is None:
                connection.recv(1)  # until the other end gives up
            else:
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with pytest.raises(dev.DemoFailed) as failed:
            start_with(f"http://{host}")
        thread.join(BOUND_S)
    assert str(failed.value) == error.replace("URL", f"http://{host}")
    assert requests == [f"GET /ping HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode()]


def test_no_container_is_one_line() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        arguments = ["dev", "--port", "0", "--container", url, "--dialect", "lmi27"]
        result = CliRunner().invoke(command_line, arguments)
    assert result.exit_code == 1
    assert result.output.startswith(f"no container answers GET {url}/ping: ")
    assert result.output.count("\n") == 1
