"""`python -m deploy.local` as a process: its ready line, its arguments, its signals; and the page that explains it."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import boto3
import msgspec
import pytest
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError
from click.testing import CliRunner

from deploy.local import ContainerRequest, faults, presets
from deploy.local.__main__ import EPILOG, _arguments, main
from deploy.local.container import Container
from deploy.local.control import PREFIX, ROUTES
from deploy.local.cutting import CHUNKING_MODES, CUT_MODES
from deploy.local.engine import NAMES, Options, build
from gateway import dev
from gateway.cli import main as gateway_command_line
from tests.docs.reading import page, table
from tests.support.stack import running_local

SESSION = boto3.Session()
DEMO = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
CHAT = json.dumps({"messages": [{"role": "user", "content": "count to 5"}], "stream": True}).encode()


@dataclass
class Running:
    process: asyncio.subprocess.Process
    ready: dict[str, Any]

    def client(self, key_id: str, secret: str, token: str | None = None, region: str = "us-east-1") -> Any:
        return SESSION.client(
            "sagemaker-runtime",
            endpoint_url=self.ready["url"],
            region_name=region,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}),
        )

    async def stop(self, number: int) -> tuple[int, bytes, bytes]:
        """Send a signal; return exit code and the rest of both outputs."""
        self.process.send_signal(number)
        out, err = await asyncio.wait_for(self.process.communicate(), 10)
        assert self.process.returncode is not None
        return self.process.returncode, out, err


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[Running]:
    """Start the process and wait for its ready line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "deploy.local",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        yield Running(process, json.loads(line))
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def read_stream(client: Any, endpoint: str, **arguments: Any) -> bytes:
    reply = client.invoke_endpoint_with_response_stream(
        EndpointName=endpoint, Body=CHAT, ContentType="application/json", **arguments
    )
    return b"".join(event["PayloadPart"]["Bytes"] for event in reply["Body"])


@pytest.mark.anyio
async def test_it_serves_engines_and_real_containers_until_it_is_told_to_stop() -> None:
    async with running("--endpoint", "first=lmi27") as behind:
        # What stands behind `real` is no container: its /ping is a 404, which is enough to see that it was asked.
        async with running(
            "--endpoint",
            "lmi=lmi27,context_length=4096,component=base,component=polite:polite-adapter",
            "--endpoint",
            "vllm=vllm,variant=blue",
            "--endpoint",
            f"real={behind.ready['url']}",
            "--access-key",
            "AKIAONE:secret-one",
            "--access-key",
            "ASIATWO:secret-two:token:with:colons",
            "--region",
            "eu-central-1",
            "--cut",
            "bytes",
            "--token-delay",
            "0.001",
        ) as local:
            assert local.ready == {"event": "ready", "url": local.ready["url"], "endpoints": ["lmi", "vllm", "real"]}
            one = local.client("AKIAONE", "secret-one", region="eu-central-1")
            two = local.client("ASIATWO", "secret-two", "token:with:colons", region="eu-central-1")
            lines = await asyncio.to_thread(read_stream, one, "lmi", InferenceComponentName="polite")
            assert json.loads(lines.splitlines()[0])["object"] == "chat.completion.chunk"
            events = await asyncio.to_thread(read_stream, two, "vllm", TargetVariant="blue")
            assert events.endswith(b"data: [DONE]\n\n")
            with pytest.raises(ClientError, match="ModelNotReadyException"):
                await asyncio.to_thread(one.invoke_endpoint, EndpointName="real", Body=b"{}")
            with pytest.raises(ClientError, match="UnrecognizedClientException"):
                await asyncio.to_thread(read_stream, local.client(*DEMO, region="eu-central-1"), "lmi")
            warning = (
                f"WARNING deploy.local: endpoint real refuses calls until GET {behind.ready['url']}/ping answers 200;"
                " now: 404\n"
            )
            assert await local.stop(signal.SIGTERM) == (0, b"", warning.encode())
        assert await behind.stop(signal.SIGINT) == (0, b"", b"")


@asynccontextmanager
async def container(behind: Container) -> AsyncIterator[str]:
    """Serve a container over HTTP and yield its URL."""

    async def ping(_: web.Request) -> web.Response:
        return web.Response(status=await behind.ping())

    async def invocations(request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        reply = await behind.invoke(ContainerRequest(await request.read(), headers))
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        await response.prepare(request)
        assert not isinstance(reply.body, bytes)
        async for chunk in reply.body:
            await response.write(chunk)
        return response

    app = web.Application()
    app.add_routes([web.get("/ping", ping), web.post("/invocations", invocations)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.anyio
async def test_a_container_is_an_endpoint_in_one_word() -> None:
    async with (
        container(build("lmi27")) as lmi,
        container(build("vllm")) as vllm,
        running("--container", lmi, "--container", f"blue={vllm}/,variant=blue") as local,
    ):
        assert local.ready["endpoints"] == ["container", "blue"]
        lines = await asyncio.to_thread(read_stream, local.client(*DEMO), "container")
        assert json.loads(lines.splitlines()[0])["model"] == "lmi"
        events = await asyncio.to_thread(read_stream, local.client(*DEMO), "blue", TargetVariant="blue")
        assert events.endswith(b"data: [DONE]\n\n")
        assert await local.stop(signal.SIGTERM) == (0, b"", b"")


@pytest.mark.anyio
async def test_a_container_that_is_not_there_is_a_warning() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with running("--container", url) as local:
            assert local.process.stderr is not None
            warning = await asyncio.wait_for(local.process.stderr.readline(), 10)
            with pytest.raises(ClientError, match="ServiceUnavailable"):
                await asyncio.to_thread(read_stream, local.client(*DEMO), "container")
            assert await local.stop(signal.SIGTERM) == (0, b"", b"")
    head = f"WARNING deploy.local: endpoint container refuses calls until GET {url}/ping answers 200; now: "
    assert warning.decode().startswith(head + "Cannot connect")


@pytest.mark.anyio
async def test_a_signal_ends_open_streams_at_once() -> None:
    async with running("--endpoint", "chat=lmi27", "--token-delay", "30") as local:
        client = local.client(*DEMO)
        reply = await asyncio.to_thread(
            client.invoke_endpoint_with_response_stream, EndpointName="chat", Body=CHAT, ContentType="application/json"
        )
        code, _, err = await asyncio.wait_for(local.stop(signal.SIGTERM), 5)
        assert (code, err) == (0, b"")
        reply["Body"].close()


@pytest.mark.anyio
async def test_a_taken_port_is_one_line_and_exit_code_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "deploy.local",
            "--endpoint",
            "chat=http://127.0.0.1:9",
            "--port",
            port,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, out) == (1, b"")
    assert err == f"python -m deploy.local: cannot listen on 127.0.0.1:{port}: Address already in use\n".encode()


CHAT_ENDPOINT = ("--endpoint", "chat=http://127.0.0.1:9")
BAD = [
    pytest.param((), "one of the arguments --endpoint --container is required", id="no endpoint"),
    pytest.param(
        ("--endpoint", "chat"),
        "argument --endpoint: 'chat' is not NAME=DIALECT or NAME=http://host:port",
        id="nothing behind it",
    ),
    pytest.param(
        ("--endpoint", "a_b=lmi27"),
        "argument --endpoint: 'a_b' is no endpoint name: up to 63 letters, digits and hyphens",
        id="endpoint name",
    ),
    pytest.param(
        ("--endpoint", "chat=lmi27", "--endpoint", "chat=vllm"),
        "argument --endpoint: 'chat' is given twice",
        id="twice",
    ),
    pytest.param(
        ("--endpoint", "chat=http://127.0.0.1:9/v1"),
        "argument --endpoint: 'http://127.0.0.1:9/v1' is not a URL without a path, such as http://127.0.0.1:8080",
        id="URL with a path",
    ),
    pytest.param(
        ("--endpoint", "chat=lmi27,fast"), "argument --endpoint: 'fast' is not option=value", id="option without value"
    ),
    pytest.param(
        ("--endpoint", "chat=http://127.0.0.1:9,fast=true"),
        "argument --endpoint: a container by URL takes no fast",
        id="engine's option for a URL",
    ),
    pytest.param(
        ("--endpoint", "chat=http://127.0.0.1:99999"),
        "argument --endpoint: 'http://127.0.0.1:99999' is not a URL without a path, such as http://127.0.0.1:8080",
        id="URL with a port that does not exist",
    ),
    pytest.param(
        ("--container", "lmi27"),
        "argument --container: 'lmi27' is not http://host:port or NAME=http://host:port",
        id="container by dialect",
    ),
    pytest.param(
        ("--container", "chat=lmi27"),
        "argument --container: 'chat=lmi27' is not http://host:port or NAME=http://host:port",
        id="named container by dialect",
    ),
    pytest.param(
        ("--container", "a_b=http://127.0.0.1:9"),
        "argument --container: 'a_b' is no endpoint name: up to 63 letters, digits and hyphens",
        id="container name",
    ),
    pytest.param(
        ("--container", "http://127.0.0.1:9/invocations"),
        "argument --container: 'http://127.0.0.1:9/invocations' is not a URL without a path, such as"
        " http://127.0.0.1:8080",
        id="container with a path",
    ),
    pytest.param(
        ("--container", "http://127.0.0.1:9", "--container", "http://127.0.0.1:11"),
        "argument --container: 'container' is given twice",
        id="two containers without a name",
    ),
    pytest.param(
        (*CHAT_ENDPOINT, "--container", "chat=http://127.0.0.1:11"),
        "argument --container: 'chat' is given twice",
        id="a container with the name of an endpoint",
    ),
    pytest.param(
        (*CHAT_ENDPOINT, "--access-key", "only-an-id"),
        "argument --access-key: must be ID:SECRET or ID:SECRET:TOKEN",
        id="half a key",
    ),
    pytest.param((*CHAT_ENDPOINT, "--port", "65536"), "argument --port: '65536' is no port", id="port"),
    pytest.param(
        (*CHAT_ENDPOINT, "--token-delay", "soon"), "argument --token-delay: 'soon' is no number of seconds", id="delay"
    ),
    pytest.param(
        (*CHAT_ENDPOINT, "--max-body-bytes", "0"), "argument --max-body-bytes: '0' is no number above 0", id="size"
    ),
    pytest.param(
        (*CHAT_ENDPOINT, "--cut", "thin"),
        "unknown cut 'thin': use one of as-written, bytes, sizes:N[,N…], random:SEED[:MAX_BYTES], merge, merge:CHUNKS",
        id="cut",
    ),
    pytest.param(
        (*CHAT_ENDPOINT, "--chunking", "thin"),
        "unknown chunking 'thin': use one of frame, split:BYTES, join:FRAMES",
        id="chunking",
    ),
    pytest.param((*CHAT_ENDPOINT, "--fast"), "unrecognized arguments: --fast", id="unknown argument"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_a_bad_argument_is_one_line_and_exit_code_2(
    arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", f"python -m deploy.local: {message}\n")


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        pytest.param("chat=gpt", "argument --endpoint: chat: unknown dialect 'gpt': ", id="dialect"),
        pytest.param("chat=lmi27,fast=true", "argument --endpoint: chat: unknown engine option 'fast'", id="option"),
        pytest.param(
            "chat=lmi27,context_length=long",
            "argument --endpoint: chat: engine option context_length must be ",
            id="value",
        ),
    ],
)
def test_what_the_engine_refuses_is_one_line_and_exit_code_2(
    endpoint: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--endpoint", endpoint])
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"python -m deploy.local: {message}")


def test_help_names_every_mode(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for text in ("--first-token-delay", "random:SEED[:MAX_BYTES]", "split:BYTES", "/_local/", "component=NAME"):
        assert text in out
    assert f"({NAMES[0]} … {NAMES[-5]}, vllm, vllm-0.11 …, tgi, tgi-2.4 …)" in EPILOG


# docs/local-sagemaker.md says what the code does

PAGE = page("local-sagemaker.md")
PORT = "8100"
"""Where the page's local SageMaker listens."""
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.replace("\\\n", "").splitlines()]
CALLS = {None: "any", "InvokeEndpoint": "whole", "InvokeEndpointWithResponseStream": "stream"}


def fault_row(kind: str, cls: type[faults.Fault]) -> list[str]:
    """Return the row of a fault in the page's table: kind, options, roles, calls, what goes wrong."""
    options = []
    for field in msgspec.structs.fields(cls):
        default = json.dumps(field.default) if not field.required else None
        if default is not None and len(default) > 40:
            default = '"…"'
        options.append(f"`{field.encode_name}`" if default is None else f"`{field.encode_name}={default}`")
    if issubclass(cls, faults.Breaking):
        forms = [cls(), cls(after_frames=0), cls(after_bytes=0)]
        roles, calls = ", ".join(form.role for form in forms), ", ".join(CALLS[form.operation] for form in forms)
    else:
        roles, calls = cls.default_role, CALLS[cls.only_on]
    return [f"`{kind}`", ", ".join(options) or "–", roles, calls, inspect.getdoc(cls) or ""]


def test_every_fault_is_in_the_page_as_it_is() -> None:
    rows = table(PAGE, "faults")
    assert {row[0]: row for row in rows} == {f"`{kind}`": fault_row(kind, cls) for kind, cls in faults.kinds().items()}
    assert len(rows) == len(faults.kinds()) >= 40


def test_every_preset_is_in_the_page() -> None:
    rows = table(PAGE, "presets")
    assert [row[0] for row in rows] == [f"`{name}`" for name in presets.SITUATIONS]
    assert all(row[1] for row in rows)
    first, *_, last = presets.VERSIONS
    assert f"by release: `lmi{first}` to `lmi{last}`" in PAGE


def test_every_control_route_is_in_the_page() -> None:
    told = [row[0].strip("`").split(" ") for row in table(PAGE, "routes")]
    found = [
        (method, pattern)
        for method, path in told
        for known, pattern, _ in ROUTES
        if known == method and re.fullmatch(pattern, re.sub(r"\b(ID|N|K)\b", "1", path.removeprefix(PREFIX)))
    ]
    assert sorted(found) == sorted((method, pattern) for method, pattern, _ in ROUTES)
    assert len(told) == len(ROUTES)


def test_every_option_of_the_engine_is_in_the_page() -> None:
    told = {row[0]: row[1] for row in table(PAGE, "options")}
    assert told == {
        f"`{field.name}`": f"`{'()' if field.default == () else json.dumps(field.default)}`"
        for field in dataclasses.fields(Options)
    }


def test_every_option_of_the_command_and_every_mode_is_in_the_page() -> None:
    words = set(re.findall(r"(?<=`)--[a-z-]+", PAGE))
    assert words >= {name for action in _arguments()._actions for name in action.option_strings} - {"-h", "--help"}
    told = re.findall(r"^\| `([^`]+)` \| ", PAGE, re.MULTILINE)
    assert set(told) >= {*CUT_MODES.split(", "), *CHUNKING_MODES.split(", ")}


def test_every_dialect_is_in_the_page() -> None:
    for name in ("lmi15", "lmi28", "vllm", "vllm-0.8", "vllm-0.33", "tgi", "tgi-1.4", "tgi-3.3"):
        assert f"`{name}`" in PAGE
        build(name)
    assert (NAMES[0], NAMES[-5]) == ("lmi15", "lmi28")
    assert dev.NEWEST["vllm"] == "0.33"


@pytest.mark.parametrize("dialect", ["lmi27", "vllm"])
@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        pytest.param(prompt.strip("`"), answer.strip("`"), id=prompt.strip("`"))
        for prompt, answer in table(PAGE, "prompts")
        if answer.startswith("`")
    ],
)
def test_the_engine_answers_as_the_page_says(dialect: str, prompt: str, answer: str) -> None:
    body = {"messages": [{"role": "user", "content": prompt}]}
    request = ContainerRequest(json.dumps(body).encode(), {"content-type": "application/json"})
    reply = asyncio.run(build(dialect).invoke(request))
    assert isinstance(reply.body, bytes)
    assert json.loads(reply.body)["choices"][0]["message"]["content"] == answer


def test_the_prompts_of_the_page_are_all_there() -> None:
    assert [row[0] for row in table(PAGE, "prompts")] == [
        *("`hello`", "`count to 5`", "`repeat: any text`", "`emoji`", "`json`", "`lines`", "`fail after 5`"),
        "anything else",
    ]


def test_the_pages_commands_are_good(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dev.Plan] = []
    monkeypatch.setattr(dev, "main", lambda host, port, out, plan: shown.append(plan))
    parsed = []
    for line in COMMANDS:
        words = shlex.split(line, comments=True)
        if words[:1] == ["lmi-gateway"]:
            assert CliRunner().invoke(gateway_command_line, words[1:]).exit_code == 0
        elif words[:3] == ["python", "-m", "deploy.local"]:
            parsed.append(_arguments().parse_args(words[3:]))
    assert [[model.name for model in plan.models] for plan in shown] == [["demo-lmi", "demo-vllm"], ["my-model"]]
    assert [(str(each.port), [argument.name for argument in each.endpoint]) for each in parsed] == [
        (PORT, ["chat", "vision"])
    ]


@pytest.mark.skipif(not shutil.which("curl"), reason="the control route is shown with curl")
def test_the_pages_snippets_work_when_pasted() -> None:
    """One after the other against one local SageMaker, and those that are followed by a text print it."""
    printed = []
    with running_local({"chat": build("lmi27"), "vision": build("vllm")}) as local:
        for (kind, text), (following, expected) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
            code = text.replace(f"127.0.0.1:{PORT}", local.url.removeprefix("http://"))
            if kind == "python":
                with redirect_stdout(StringIO()) as out:
                    exec(compile(code, "docs/local-sagemaker.md", "exec"), {"__name__": "__main__"})
                printed.append(out.getvalue())
                if following == "text":
                    assert out.getvalue() == expected
            elif kind == "sh" and "curl" in code:
                run = ["bash", "-ec", code.replace("curl ", "curl -sSf --max-time 20 ")]
                printed.append(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
                assert "{" in printed[-1]
                local.clear_faults()
    assert len(printed) == 7
    assert json.loads(printed[0])["choices"][0]["message"]["content"] == "Hello! How can I help you today?"
    deltas = [json.loads(line)["choices"][0]["delta"] for line in printed[1].splitlines() if line]
    assert "".join(delta.get("content") or "" for delta in deltas) == "1, 2, 3"
    assert printed[2] == '{"id": 1}'
    assert printed[3] == '{"id": 2}{"id": 3}{"id": 4}{"id": 5}'
    assert json.loads(printed[4].partition('{"open"')[0])["status"] == 200
