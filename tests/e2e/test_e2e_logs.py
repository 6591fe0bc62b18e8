"""What whole gateways write about calls: log lines, on a pipe, a terminal or a pipe nobody reads, and usage records."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from deploy.local import DEMO_KEY, faults
from deploy.local.engine import build
from tests.support.moto_server import running_moto
from tests.support.stack import KEY, Gateway, Local, config, model, running_gateway, running_local

HELLO = [{"role": "user", "content": "hello"}]
COUNT = [{"role": "user", "content": "count to 40"}]
WAIT_S = 20.0


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with running_local({"fast": build("vllm"), "slow": build("lmi27", token_delay_s=0.02)}) as running:
        yield running


MODELS = (
    model("fast", "vllm", "0.33", prices={"prompt_per_million": 1, "completion_per_million": 3}),
    model("slow", "lmi", "27"),
)


def ask(gateway: str, **body: Any) -> int:
    """Make one call, on a connection of its own, and return the status."""
    headers = {"authorization": f"Bearer {KEY}", "x-request-id": body.pop("id", "req_1")}
    whole = {"model": "fast", "messages": HELLO, **body}
    return httpx.post(f"{gateway}/v1/chat/completions", json=whole, headers=headers, timeout=20).status_code


def lines(gateway: Gateway) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gateway.log]


def calls(gateway: Gateway) -> list[tuple[str, str, str]]:
    found = [line for line in lines(gateway) if line["logger"] == "gateway.calls"]
    return [(line["event"], line["request_id"], line["code"]) for line in found]


def test_every_call_has_one_line(local: Local) -> None:
    with running_gateway(config(local.url, *MODELS)) as gateway:
        assert ask(gateway.url, id="whole") == 200
        assert ask(gateway.url, id="streamed", stream=True) == 200
        assert ask(gateway.url, id="unknown", model="nowhere") == 404
        local.add_fault(faults.ModelError(status=500, body="boom"))
        assert ask(gateway.url, id="broken") == 502
        local.clear_faults()
        httpx.get(f"{gateway.url}/healthz")
        gateway.stop()
    assert calls(gateway) == [
        ("call ended", "whole", "ok"),
        ("call ended", "streamed", "ok"),
        ("call ended", "unknown", "model_not_found"),
        ("call failed", "broken", "upstream_error"),
    ]
    whole = next(line for line in lines(gateway) if line.get("request_id") == "whole")
    assert (whole["key"], whole["model"], whole["deployment"]) == ("all", "fast", "fast")
    assert whole["money"] == pytest.approx(
        (whole["prompt_tokens"] + 3 * whole["completion_tokens"]) / 1_000_000, abs=1e-9
    )
    failed = next(line for line in lines(gateway) if line["event"] == "call failed")
    assert (failed["level"], failed["detail"]) == ("error", "container: failed")


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        pytest.param({"log_calls": "failed"}, ["broken"], id="only failures"),
        pytest.param({"log_level": "error"}, ["broken"], id="only errors"),
        pytest.param({"log_calls": "off"}, [], id="none"),
        pytest.param({"log_level": "critical"}, [], id="nothing at all"),
        pytest.param({"log_level": "debug"}, ["whole", "broken"], id="everything"),
    ],
)
def test_which_calls_have_a_line(local: Local, settings: dict[str, str], written: list[str]) -> None:
    silent = settings.get("log_level") in ("error", "critical")
    made = config(local.url, *MODELS, **settings)
    with _silent(made) if silent else running_gateway(made) as gateway:
        assert ask(gateway.url, id="whole") == 200
        local.add_fault(faults.ModelError(status=500, body="boom"))
        assert ask(gateway.url, id="broken") == 502
        local.clear_faults()
        gateway.stop()
    assert [id_ for _, id_, _ in calls(gateway)] == written


@contextlib.contextmanager
def _silent(made: dict[str, Any]) -> Iterator[Gateway]:
    """Run a gateway that does not say where it listens, on a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made["settings"]["port"] = port
    with _started(made, subprocess.PIPE) as process:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + WAIT_S
        while True:
            try:
                httpx.get(f"{url}/healthz")
                break
            except httpx.HTTPError:
                assert time.monotonic() < end
                time.sleep(0.05)
        gateway = Gateway(process, url, [], Path())
        yield gateway
        assert process.stderr is not None
        gateway.log.extend(process.stderr)


@contextlib.contextmanager
def _started(configuration: Mapping[str, Any], stderr: int, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "--config", "/dev/stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=os.environ | {"AWS_ACCESS_KEY_ID": DEMO_KEY.id, "AWS_SECRET_ACCESS_KEY": DEMO_KEY.secret} | environment,
    )
    assert process.stdin is not None
    with process:
        process.stdin.write(json.dumps(configuration))
        process.stdin.close()
        try:
            yield process
        finally:
            process.kill()


def test_a_failure_is_there_at_once_and_in_order(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_gateway(config(local.url, *MODELS)) as gateway:
        local.add_fault(faults.ModelError(status=500, body="boom"))
        for number in range(5):
            ask(gateway.url, id=f"refused-{number}", model="nowhere")
            ask(gateway.url, id=f"broken-{number}")
        local.clear_faults()
        end = time.monotonic() + 5
        while len(calls(gateway)) < 10 and time.monotonic() < end:
            time.sleep(0.01)
    assert [id_ for _, id_, _ in calls(gateway)] == [
        f"{what}-{number}" for number in range(5) for what in ("refused", "broken")
    ]


@pytest.mark.parametrize("no_color", [False, True], ids=["colours", "NO_COLOR"])
def test_a_terminal_gets_words(local: Local, no_color: bool) -> None:
    master, slave = pty.openpty()
    environment = {"NO_COLOR": "1"} if no_color else {}
    with _started(config(local.url, *MODELS), slave, **environment) as process:
        os.close(slave)
        shown = _read(master, rb"url=\"(http[^\"]+)\"")
        url = re.search(rb"url=\"(http[^\"]+)\"", shown)
        assert url
        ask(url[1].decode(), id="req_words", stream=True)
        shown = _read(master, rb"req_words")
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)
    os.close(master)
    clock, tokens = r"\d\d:\d\d:\d\d", r"\d+→\d+ tokens"
    status = "200" if no_color else "\x1b\\[32m200\x1b\\[0m"
    assert re.search(
        rf"^{clock} {status} chat fast [\d.]+ ms · first token [\d.]+ ms · {tokens} · key all · ",
        shown.decode(),
        re.MULTILINE,
    ), shown


def _read(fd: int, pattern: bytes) -> bytes:
    shown = b""
    end = time.monotonic() + WAIT_S
    while not re.search(pattern, shown):
        assert select.select([fd], [], [], end - time.monotonic())[0], shown
        shown += os.read(fd, 65_536)
    return shown


def test_a_log_that_nobody_reads_holds_up_no_call_and_is_counted(local: Local) -> None:
    read_fd, write_fd = os.pipe()
    with _started(config(local.url, *MODELS), write_fd) as process:
        os.close(write_fd)
        found = re.search(rb"\"url\":\"(http[^\"]+)\"", _read(read_fd, rb"\"url\":\"(http[^\"]+)\""))
        assert found
        url = found[1].decode()
        names = "n" * 60  # with long ids the pipe and the buffer are full sooner
        body = json.dumps({"model": "nowhere", "messages": HELLO}).encode()
        with httpx.Client(headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
            for number in range(3600):
                headers = {"x-request-id": f"{names}{number}", "content-type": "application/json"}
                assert client.post(f"{url}/v1/chat/completions", content=body, headers=headers).status_code == 404
            text = client.get(f"{url}/metrics").text
        dropped = re.search(r"^gateway_log_lines_dropped_total (\d+)", text, re.MULTILINE)
        assert dropped
        assert int(dropped[1]) > 0
        shown = _read(read_fd, rb"log lines were dropped")
        assert json.loads(shown.splitlines()[-1] if shown.endswith(b"}\n") else shown.splitlines()[-2])
        assert b'"event":"log lines were dropped"' in shown
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    os.close(read_fd)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_says_how_long_it_took_and_what_it_cut(local: Local, workers: int) -> None:
    with running_gateway(config(local.url, *MODELS, drain_timeout_s=0.3, workers=workers)) as gateway:
        body = {"model": "slow", "messages": COUNT, "stream": True}
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx.stream("POST", f"{gateway.base_url}/chat/completions", json=body, headers=headers) as answer:
            parts = answer.iter_text()
            next(parts)
            gateway.process.send_signal(signal.SIGTERM)
            assert '"server_shutdown"' in "".join(parts)
        assert gateway.process.wait(WAIT_S) == 0
    drained = [line for line in lines(gateway) if line["event"] == "gateway drained"]
    assert sum(line["cut"] for line in drained) == 1
    assert len(drained) == workers
    assert all(0 <= line["seconds"] < 5 for line in drained)
    assert max(line["seconds"] for line in drained) >= 0.25
    assert [line["code"] for line in lines(gateway) if line["event"] == "call ended"] == ["server_shutdown"]


# Records of usage


def with_sink(local: Local, to: str, sink: Mapping[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    return {**config(local.url, *MODELS, **settings), "usage_sink": {"to": to, **(sink or {})}}


def test_two_workers_write_one_file_and_leave_nothing_behind(local: Local, tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    with running_gateway(with_sink(local, f"file:{path}", {"batch_s": 60}, workers=2)) as gateway:
        for number in range(20):
            assert ask(gateway.url, id=f"call-{number}") == 200
        assert ask(gateway.url, model="nowhere") == 404
        assert gateway.stop() == 0
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(record["request_id"] for record in found) == sorted(f"call-{number}" for number in range(20))
    assert len({record["id"] for record in found}) == 20
    assert {record["key"] for record in found} == {"all"}
    assert all(record["money"] > 0 for record in found)


def test_standard_output_gets_records_and_nothing_else(local: Local) -> None:
    with _started(with_sink(local, "stdout"), subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        found = re.search(r'"url":"(http[^"]+)"', process.stderr.readline())
        assert found
        assert ask(found[1], id="call-1") == 200
        assert json.loads(process.stdout.readline())["request_id"] == "call-1"
        text = httpx.get(f"{found[1]}/metrics").text
        assert 'gateway_usage_records_total{outcome="written",sink="stdout"} 1.0' in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
        assert process.stdout.read() == ""


def test_a_file_that_cannot_be_written_costs_no_call(local: Local) -> None:
    with running_gateway(with_sink(local, "file:/dev/full", {"retry_s": 0})) as gateway:
        assert ask(gateway.url) == 200
        end = time.monotonic() + WAIT_S
        while 'gateway_usage_records_total{outcome="failed",sink="file"} 1.0' not in (
            httpx.get(f"{gateway.url}/metrics").text
        ):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert gateway.stop() == 0
    said = [(line["event"], line.get("reason")) for line in lines(gateway) if line["level"] == "error"]
    assert said == [("usage records cannot be written", "not a regular file"), ("usage records are lost", None)]


def test_records_reach_a_bucket_when_the_gateway_stops(local: Local) -> None:
    with running_moto() as moto:
        s3 = boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=moto,
            aws_access_key_id=DEMO_KEY.id,
            aws_secret_access_key=DEMO_KEY.secret,
        )
        s3.create_bucket(Bucket="billing")
        with running_gateway(with_sink(local, "s3://billing/lmi"), AWS_ENDPOINT_URL_S3=moto) as gateway:
            assert ask(gateway.url, id="call-1", stream=True) == 200
            assert ask(gateway.url, id="call-2") == 200
            assert gateway.stop() == 0
        (key,) = [found["Key"] for found in s3.list_objects_v2(Bucket="billing")["Contents"]]
        text = gzip.decompress(s3.get_object(Bucket="billing", Key=key)["Body"].read())
    assert key.startswith("lmi/dt=")
    assert [json.loads(line)["request_id"] for line in text.splitlines()] == ["call-1", "call-2"]


def test_a_bucket_that_is_down_costs_no_call_and_a_bounded_stop(local: Local) -> None:
    with running_gateway(with_sink(local, "s3://billing/lmi"), AWS_ENDPOINT_URL_S3="http://127.0.0.1:9") as gateway:
        assert ask(gateway.url) == 200
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 9
    said = [line["event"] for line in lines(gateway) if line["level"] == "error"]
    assert said == ["usage records cannot be written", "usage records are lost"]
