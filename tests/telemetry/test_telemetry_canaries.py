"""Nothing secret is in anything that a whole gateway writes, whatever happens to calls, in every form of its log."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local import faults
from deploy.local.engine import build
from deploy.local.sigv4 import AccessKey
from tests.support.canaries import PLANTED, Written, bodies
from tests.support.collector import Collector, collecting
from tests.support.redis_server import RedisServer, running_redis
from tests.support.stack import KEY, NARROW_KEY, Local, config, digest, model, running_local

WAIT_S = 20.0
ROOT = Path(__file__).parents[2]
ADMIN, WRONG_ADMIN = PLANTED["the administration's key"], PLANTED["a wrong key for the administration"]
# A defect quotes whatever it choked on; it is put where calls, plain routes and the web framework's own handlers are.
SERVE = f"""
import sys
from gateway.dispatch import Dispatcher
from gateway.http.tgi_info import InfoAnswer
from gateway.routing.catalog import Catalog
from gateway.cli import main
whole, stream = Dispatcher.complete, Dispatcher.stream
def choke(*arguments, **options):
    raise ValueError({PLANTED["the text of a defect"]!r}, arguments, options)
def choking(kept):
    async def walk(self, model, call, *rest):
        return choke(call, *rest) if model.name == "defect" else await kept(self, model, call, *rest)
    return walk
Dispatcher.complete, Dispatcher.stream = choking(whole), choking(stream)
InfoAnswer.__call__ = choke
Catalog.visible = choke
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    keys = [AccessKey("AKIACANARY", PLANTED["AWS' secret key"], PLANTED["AWS' session token"])]
    containers = {"fast": build("vllm"), "slow": build("vllm", token_delay_s=0.05)}
    with running_local(containers, access_keys=keys) as running:
        yield running


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "canary", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        yield server


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


PASSWORD, COLLECTOR = PLANTED["the password of Redis"], PLANTED["the collector's key"]


def configuration(local: Local, redis: RedisServer, usage: Path, **settings: Any) -> dict[str, Any]:
    with redis.client() as client:
        client.flushall()
    sight: dict[str, Any] = {"modalities": ["text", "image"], "attempts": 1, "media": {"urls": "off"}}
    fast = {"endpoint": "fast"}
    made = config(
        local.url,
        model("fast", "vllm", "0.33", **sight),
        model("slow", "vllm", "0.33", **sight),
        model("defect", "vllm", "0.33", deployment=fast),
        model("closed", "vllm", "0.33", deployment=fast),
        redis_url=f"redis://canary:{PASSWORD}@127.0.0.1:{redis.port}/0",
        limits_store="redis",
        keys_store="redis",
        admin_port=0,
        admin_key_digest=digest(ADMIN),
        drain_timeout_s=0.2,
        **settings,
    )
    made["keys"][0]["models"] = ["fast", "slow", "defect"]
    made["keys"][1]["limits"] = {"requests_per_minute": 1}
    made["usage_sink"] = {"to": f"file:{usage}"}
    return made


class Running:
    """A gateway whose every line is kept."""

    def __init__(self, process: subprocess.Popen[bytes], said: int) -> None:
        self.process = process
        self._said = said
        self._text = bytearray()
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def _follow(self) -> None:
        with contextlib.suppress(OSError):  # how a terminal ends
            while data := os.read(self._said, 65_536):
                with self._changed:
                    self._text += data
                    self._changed.notify_all()

    def found(self, pattern: bytes) -> str:
        """Return the group of a pattern once it was written."""
        with self._changed:
            assert self._changed.wait_for(lambda: re.search(pattern, self._text), WAIT_S), bytes(self._text)
            found = re.search(pattern, self._text)
        assert found
        return found[1].decode()

    def text(self) -> bytes:
        """Return all that was written, once nothing more can come."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(WAIT_S) == 0
        self._reader.join(WAIT_S)
        return bytes(self._text)


@contextlib.contextmanager
def running(made: Mapping[str, Any], folder: Path, *, terminal: bool, **environ: str) -> Iterator[Running]:
    path = folder / "gateway.yaml"
    path.write_text(json.dumps(made))
    said, fd = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", "--config", str(path)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=fd,
        env=os.environ
        | {
            "AWS_ACCESS_KEY_ID": "AKIACANARY",
            "AWS_SECRET_ACCESS_KEY": PLANTED["AWS' secret key"],
            "AWS_SESSION_TOKEN": PLANTED["AWS' session token"],
        }
        | environ,
    )
    os.close(fd)
    try:
        yield Running(process, said)
    finally:
        process.kill()
        process.wait(WAIT_S)
        os.close(said)


HEADERS = {
    "authorization": f"Bearer {KEY}",
    "cookie": f"session={PLANTED['a cookie']}",
    "x-nothing": PLANTED["a header of no meaning"],
    "user-agent": PLANTED["a header of no meaning"],
}
QUOTES = json.dumps({"error": {"message": f"cannot serve {PLANTED['a prompt']!r}", "type": "X", "code": 400}})
BROKEN, AWS_TEXT = PLANTED["a container's error"], PLANTED["AWS' error text"]
FAILURES: dict[str, Any] = {
    "a container's fault that quotes the prompt": faults.ModelError(
        status=500, body=f"{BROKEN}: {PLANTED['a prompt']}"
    ),
    "one that blames the request": faults.ModelError(status=400, body=QUOTES),
    "AWS' refusal": faults.AwsError(status=403, code="AccessDeniedException", message=AWS_TEXT),
    "another": faults.AwsError(status=400, code=AWS_TEXT, message=AWS_TEXT),
    "a page": faults.Html(body=f"<html>{PLANTED['a prompt']} {AWS_TEXT}</html>"),
    "no reply": faults.Reply(chunks=[PLANTED["an answer"]]),
    "half a reply": faults.Reply(chunks=['{"choices":[{"message":{"content":"' + PLANTED["an answer"]]),
    "an answer": faults.Reply(
        chunks=[
            json.dumps(
                {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 1,
                    "model": "m",
                    "choices": [
                        {
                            "index": 0,
                            "message": {"role": "assistant", "content": PLANTED["an answer"]},
                            "finish_reason": "stop",
                        }
                    ],
                }
            )
        ]
    ),
    "a throttle": faults.Throttle(),
    "a stream that breaks": faults.ReplyTail(after_chunks=2, text=f"data: {{{PLANTED['an answer']}\n\n"),
}


def drive(url: str, admin_url: str, local: Local) -> dict[str, str]:
    """Let everything happen to calls that can; return secrets that were made meanwhile."""
    chat = f"{url}/v1/chat/completions"
    with httpx.Client(headers=HEADERS, timeout=20) as client:
        for body in bodies().values():
            client.post(chat, json=body)
        query = {"q": PLANTED["a query string"], "api_key": KEY}
        plain = bodies()["whole"]
        client.post(chat, json=plain, params=query)
        for path in ("/v1/models", f"/v1/models/{PLANTED['a path']}", f"/{PLANTED['a path']}", "/info", "/readyz", "/"):
            client.get(f"{url}{path}", params=query)
            client.delete(f"{url}{path}", params=query)
        for text in (b"{", b'{"model": "fast", "messages": "' + PLANTED["a prompt"].encode(), b"\xff", b"[]", b""):
            client.post(chat, content=text, headers={"content-type": "application/json"})
            client.post(f"{url}/generate", content=text, headers={"content-type": "application/json"})
        client.post(f"{url}/generate", json={"inputs": PLANTED["a prompt"], "model": "fast"})
        for stream in (False, True):
            client.post(chat, json={**plain, "model": "defect", "stream": stream})
            for name, fault in FAILURES.items():
                local.add_fault(fault)
                client.post(chat, json={**plain, "stream": stream or name == "a stream that breaks"})
                local.clear_faults()
        for key in (PLANTED["a wrong key"], NARROW_KEY, NARROW_KEY, NARROW_KEY):
            client.post(chat, json=plain, headers={"authorization": f"Bearer {key}"})
        basic = {"authorization": f"Basic {PLANTED['an authorization header']}"}
        client.post(chat, json=plain, headers=basic)
        client.post(chat, json=plain, headers={"traceparent": PLANTED["a traceparent that is none"]})
        with client.stream("POST", chat, json={**plain, "model": "slow", "stream": True}) as answer:
            next(answer.iter_bytes())  # and leave
        port = int(url.rpartition(":")[2])
        for head in (f"GET /{PLANTED['a path']} HTTP/9\r\n\r\n", f"POST {chat} {PLANTED['a path']}\r\nbroken\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                raw.sendall(head.encode())
                raw.recv(4096)
    with httpx.Client(base_url=admin_url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=10) as admin:
        answer = admin.post("/admin/keys", json={"id": "made", "models": ["fast"]})
        assert answer.status_code == 201, answer.text
        made = answer.json()["key"]
        turned = admin.post("/admin/keys/made/rotate", json={"overlap_s": 60}).json()["key"]
        admin.get("/admin/keys", headers={"authorization": f"Bearer {WRONG_ADMIN}"})
        admin.post("/admin/keys", content=PLANTED["a prompt"], headers={"content-type": "application/json"})
        admin.post("/admin/keys", json={"id": "worse", "models": [PLANTED["the name of no model"]]})
    return {"a key that was made": made, "a key that was rotated": turned}


@pytest.mark.parametrize(
    ("level", "terminal"),
    [("debug", False), ("info", False), ("info", True), ("debug", True)],
    ids=["debug as JSON", "info as JSON", "info in words", "debug in words"],
)
def test_nothing_that_is_written_holds_a_secret(
    local: Local, redis: RedisServer, collector: Collector, tmp_path: Path, level: str, terminal: bool
) -> None:
    usage, written = tmp_path / "usage.jsonl", Written()
    made = configuration(local, redis, usage, log_level=level, traces_exporter="otlp")
    tracing = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-collector-key={COLLECTOR}",
    }
    with running(made, tmp_path, terminal=terminal, **tracing) as gateway:
        url = gateway.found(rb"\burl\"?[:=] ?\"(http[^\"]+)\"")
        admin_url = gateway.found(rb"\badmin_url\"?[:=] ?\"(http[^\"]+)\"")
        new = drive(url, admin_url, local)
        written.add("the metrics", httpx.get(f"{url}/metrics").content)
        for path in ("live", "live/history", "limits", "about", "usage"):
            answer = httpx.get(f"{admin_url}/admin/{path}", headers={"authorization": f"Bearer {ADMIN}"})
            assert answer.status_code == 200, path
            written.add("what the console shows", answer.content)
        body = {**bodies()["streamed"], "model": "slow"}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=HEADERS, timeout=20) as cut:
            next(cut.iter_bytes())
            written.add("the log", gateway.text())
    written.add("the records of usage", usage.read_bytes())
    written.add("the spans", b"".join(collector.bodies))
    written.check(
        also=new,
        holds={
            "the log": "unexpected error",
            "the metrics": 'code="upstream_auth"',
            "what the console shows": '"code":"upstream_auth"',
            "the records of usage": "req_",
            "the spans": "upstream_auth",
        },
    )
    assert usage.read_text().count('"code":"ok"') >= 5


def test_the_log_of_such_a_run_tells_of_every_kind_of_call(local: Local, redis: RedisServer, tmp_path: Path) -> None:
    """What is looked through above is not next to nothing."""
    made = configuration(local, redis, tmp_path / "usage.jsonl")
    with running(made, tmp_path, terminal=False) as gateway:
        url = gateway.found(rb"\"url\":\"(http[^\"]+)\"")
        drive(url, gateway.found(rb"\"admin_url\":\"(http[^\"]+)\""), local)
        lines = [json.loads(line) for line in gateway.text().splitlines()]
    codes = {line["code"] for line in lines if "code" in line}
    assert codes >= {
        "ok", "cancelled", "invalid_json", "invalid_type", "parameter_not_allowed", "model_not_found",
        "invalid_api_key", "missing_api_key", "internal_error", "upstream_error", "upstream_auth",
        "upstream_protocol", "upstream_throttled", "upstream_misconfigured", "rate_limit_exceeded",
    }  # fmt: skip
    assert sum(line["event"] == "unexpected error" for line in lines) >= 4


WRONG_DIGEST = {"id": "w", "digest": PLANTED["a wrong key"], "models": ["*"]}


@pytest.mark.parametrize(
    ("change", "environment"),
    [
        pytest.param({"keys": [WRONG_DIGEST]}, {}, id="a key in place of its digest"),
        pytest.param({"settings": {"redis_url": f"redis://u:{PASSWORD}#@h:1/0"}}, {}, id="a password with a #"),
        pytest.param({"settings": {"redis_url": f"redis://u:{PASSWORD}@h:port/0"}}, {}, id="a wrong port"),
        pytest.param({"settings": {"admin_key_digest": ADMIN, "admin_port": 0}}, {}, id="the administration's key"),
        pytest.param({}, {"LMI_GATEWAY_REDIS_URL": f"http://u:{PASSWORD}@h"}, id="a variable that is no URL of Redis"),
        pytest.param({}, {"LMI_GATEWAY_ADMIN_KEY_DIGEST": ADMIN}, id="a variable that holds a key"),
        pytest.param({}, {"LMI_GATEWAY_REDIS_URLS": f"redis://u:{PASSWORD}@h"}, id="an unknown variable"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_wrong_configuration_is_told_without_its_secrets(
    local: Local, tmp_path: Path, change: dict[str, Any], environment: dict[str, str], command: str
) -> None:
    made = config(local.url, model("fast", "vllm", "0.33"))
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps({**made, **change}))
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", command, "--config", str(path)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    assert ended.returncode == 1
    written = Written()
    written.add("what is wrong", ended.stderr + ended.stdout)
    written.check(holds={"what is wrong": "expected" if "URLS" not in str(environment) else "unknown variable"})


def test_a_canary_is_found_in_every_form() -> None:
    for form in ("canary-prompt-7261", "Y2FuYXJ5LXByb21wdC03MjYx", "63616e6172792d70726f6d70742d37323631"):
        written = Written()
        written.add("the log", f"a line with {form} in it")
        with pytest.raises(AssertionError, match=r"a prompt .* in the log"):
            written.check()
