"""The gateway as a process: starting, several workers, stopping."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from deploy.local.engine import build
from tests.support.processes import until, workers
from tests.support.stack import KEY, Local, config, digest, model, running_gateway, running_local

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
COUNT: list[ChatCompletionMessageParam] = [{"role": "user", "content": "count to 40"}]


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with running_local({"fast": build("vllm"), "slow": build("lmi27", token_delay_s=0.02)}) as running:
        yield running


MODELS = (model("fast", "vllm", "0.33"), model("slow", "lmi", "27"))


def test_a_stop_lets_running_streams_end_and_exits_with_0(local: Local) -> None:
    with running_gateway(config(local.url, *MODELS)) as gateway:
        client = OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0)
        stream = client.chat.completions.create(model="slow", messages=COUNT, stream=True)
        first = next(stream)
        gateway.process.send_signal(signal.SIGTERM)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in [first, *stream] if chunk.choices)

        assert text.endswith("39, 40")
        assert gateway.process.wait(10) == 0


def test_a_stream_longer_than_the_drain_time_ends_in_an_error_event(local: Local) -> None:
    with running_gateway(config(local.url, *MODELS, drain_timeout_s=0.2)) as gateway:
        body = {"model": "slow", "messages": COUNT, "stream": True}
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx.stream(
            "POST", f"{gateway.base_url}/chat/completions", json=body, headers=headers, timeout=20
        ) as answer:
            parts = answer.iter_text()
            text = next(parts)
            gateway.process.send_signal(signal.SIGTERM)
            text += "".join(parts)

        assert '"code":"server_shutdown"' in text.split("\n\n")[-2]
        assert "[DONE]" not in text
        assert gateway.process.wait(10) == 0


def test_a_second_signal_ends_the_process_at_once(local: Local) -> None:
    with running_gateway(config(local.url, *MODELS, drain_timeout_s=60)) as gateway:
        body = {"model": "slow", "messages": COUNT, "stream": True}
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx.stream(
            "POST", f"{gateway.base_url}/chat/completions", json=body, headers=headers, timeout=20
        ) as answer:
            gateway.process.send_signal(signal.SIGTERM)
            assert until(lambda: any("gateway stopping" in line for line in gateway.log))
            gateway.process.send_signal(signal.SIGTERM)
            text = "".join(answer.iter_text())

        assert '"code":"server_shutdown"' in text
        assert gateway.process.wait(3) == 0
        assert not [line for line in gateway.log if "raceback" in line]


def test_workers_share_the_port_and_their_metrics_add_up(local: Local) -> None:
    with running_gateway(config(local.url, *MODELS, workers=2)) as gateway:
        assert until(lambda: len(workers(gateway.pid)) == 2)
        for _ in range(20):
            with OpenAI(base_url=gateway.base_url, api_key=KEY) as client:
                answer = client.chat.completions.create(model="fast", messages=HELLO)
                assert answer.choices[0].message.content

        text = httpx.get(f"{gateway.url}/metrics").text
        assert 'gateway_calls_total{code="ok",model="fast",surface="chat"} 20.0' in text
        assert gateway.stop() == 0


def test_a_killed_worker_is_replaced(local: Local) -> None:
    with running_gateway(config(local.url, *MODELS, workers=2)) as gateway:
        assert until(lambda: len(workers(gateway.pid)) == 2)
        victim = min(workers(gateway.pid))
        os.kill(victim, signal.SIGKILL)

        assert until(lambda: len(workers(gateway.pid) - {victim}) == 2)
        assert until(lambda: any(f'"worker died","pid":{victim},"exit_status":-9' in line for line in gateway.log))
        assert until(lambda: any('"worker started","pid":' in line for line in gateway.log))
        with OpenAI(base_url=gateway.base_url, api_key=KEY) as client:
            assert client.chat.completions.create(model="fast", messages=HELLO).choices


def test_several_workers_that_stop_let_nobody_in_and_finish_what_runs(local: Local) -> None:
    with running_gateway(config(local.url, *MODELS, workers=2)) as gateway:
        client = OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0)
        stream = client.chat.completions.create(model="slow", messages=COUNT, stream=True)
        first = next(stream)
        gateway.process.send_signal(signal.SIGTERM)
        assert until(lambda: not accepts(gateway.port))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in [first, *stream] if chunk.choices)

        assert text.endswith("39, 40")
        assert gateway.process.wait(10) == 0


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("port", ": Address already in use; --port chooses another"),
        ("admin_port", " for the administration: Address already in use; admin_port chooses another"),
    ],
)
def test_a_taken_port_is_one_clear_line(local: Local, tmp_path: Path, setting: str, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "gateway.yaml"
        settings = {"admin_key_digest": digest(KEY), setting: port}
        path.write_text(str(config(local.url, *MODELS, **settings)).replace("'", '"'))
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", "serve", "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

        assert (ended.returncode, ended.stderr) == (1, f"cannot listen on 127.0.0.1:{port}{told}\n")


def test_readiness_says_which_credentials_are_missing(local: Local) -> None:
    with running_gateway(config(local.url, *MODELS), AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="") as gateway:
        ready = httpx.get(f"{gateway.url}/readyz")
        assert (ready.status_code, ready.json()) == (
            503,
            {"status": "unavailable", "problems": ["aws credentials: default"]},
        )
        assert httpx.get(f"{gateway.url}/healthz").json() == {"status": "ok"}
        answer = httpx.post(
            f"{gateway.base_url}/chat/completions",
            json={"model": "fast", "messages": HELLO},
            headers={"api-key": KEY},
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_auth")
