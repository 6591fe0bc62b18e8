"""`make bench`: what the gateway costs, beside talking to the upstream directly.

Everything runs on this machine, over loopback. CPU is the gateway's process alone, as the kernel's scheduler counts it;
latencies and delays depend on what else the machine does, so compare them with the direct row only.

    python -m tests.load.bench [--seconds 5] [--profiles unary,burst,paced64,paced1000,open1000,memory,redis,telemetry]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import cpu_s
from tests.support.redis_server import running_redis

KEY = "sk-lmi-" + "b" * 43


@dataclass(frozen=True)
class Profile:
    """One kind of load; `target` is the gateway CPU per unit that we hold ourselves to, in µs."""

    doc: str
    connections: int
    marker: str = ""
    stream: bool = True
    ramp_s: float = 0.2
    target_us: float | None = None
    limits: str = ""
    """Where limits are counted, `memory` or `redis`: with them on, the cost is what this adds to the same without."""


PROFILES = {
    "unary": Profile("whole replies, 16 callers", 16, stream=False, target_us=120),
    "burst": Profile("64 chunks at once, 16 callers", 16, "[[chunks=64]]", target_us=6),
    "paced64": Profile("64 streams, a chunk each 20 ms", 64, "[[chunks=64 pace_ms=20]]", ramp_s=1.3, target_us=60),
    "paced1000": Profile(
        "1,000 streams, a chunk each 20 ms", 1000, "[[chunks=64 pace_ms=20]]", ramp_s=1.3, target_us=30
    ),
    "open1000": Profile("1,000 streams, a chunk each 500 ms", 1000, "[[chunks=64 pace_ms=500]]", ramp_s=3),
    "memory": Profile("unary, five limits in memory", 16, stream=False, target_us=135, limits="memory"),
    "redis": Profile("unary, five limits in Redis", 16, stream=False, target_us=180, limits="redis"),
}
TELEMETRY = "telemetry"
TELEMETRY_TARGETS_US = {"unary": 15.0, "burst": 2.0}
"""What measuring may add to each unit of a profile."""
SLICES = 3
"""On and off take turns, so that what else the machine does meets both."""
LIMITS = {
    "requests_per_minute": 10**9,
    "tokens_per_minute": 10**10,
    "concurrent_requests": 10**6,
    "tokens_per_day": 10**11,
}


def body_of(profile: Profile) -> bytes:
    return json.dumps(
        {
            "model": "bench",
            "messages": [
                {"role": "system", "content": "You are a terse assistant."},
                {"role": "user", "content": f"Explain in one paragraph why the sky is blue. {profile.marker}"},
            ],
            **({"stream": True} if profile.stream else {}),
            "temperature": 0.7,
            "max_tokens": 256,
        },
        separators=(",", ":"),
    ).encode()


def config_of(upstream: str, limits: str = "", redis_url: str = "", *, telemetry: bool = True) -> dict[str, Any]:
    store = {"limits_store": limits, "redis_url": redis_url, "redis_timeout_s": 1.0} if limits == "redis" else {}
    key = {"id": "bench", "digest": f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}", "models": ["*"]}
    return {
        "settings": {
            "port": 0,
            "sagemaker_endpoint_url": upstream,
            "log_level": "info",
            "telemetry_enabled": telemetry,
            "log_calls": "all" if telemetry else "off",
            **store,
        },
        "keys": [{**key, "limits": LIMITS} if limits else key],
        "models": [
            {
                "name": "bench",
                **({"limits": {"concurrent_requests": 10**6}} if limits else {}),
                "deployments": [
                    {"endpoint": "bench", "region": "us-east-1", "container": "vllm", "version": "0.27"},
                ],
            }
        ],
    }


@contextlib.contextmanager
def process(command: list[str], stream: str, pattern: str, **environment: str) -> Iterator[tuple[int, str]]:
    """Start a program and yield its id and what `pattern` finds in the first line that matches."""
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE if stream == "stdout" else subprocess.DEVNULL,
        stderr=subprocess.PIPE if stream == "stderr" else None,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        pipe = running.stdout if stream == "stdout" else running.stderr
        assert pipe is not None
        for line in pipe:
            if found := re.search(pattern, line):
                # What else it writes must not fill the pipe and stop it.
                threading.Thread(target=pipe.read, daemon=True).start()
                yield running.pid, found[1]
                return
        raise SystemExit(f"{command} did not start")
    finally:
        running.terminate()
        running.wait(20)


def memory_mb(pid: int) -> float:
    """Proportional set size."""
    found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def measure(url: str, profile: Profile, seconds: float, pid: int | None) -> dict[str, Any]:
    """Run one profile; the CPU is what `pid` used between the client's start and end of measuring."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body_of(profile))
        file.flush()
        arguments = [url, file.name, str(profile.connections), str(seconds), str(profile.ramp_s), KEY]
        with subprocess.Popen(
            [sys.executable, "-m", "tests.load.client", *arguments], stdout=subprocess.PIPE, text=True
        ) as client:
            assert client.stdout is not None
            client.stdout.readline()
            before = cpu_s(pid) if pid else 0.0
            time.sleep(seconds * 0.8)
            memory = memory_mb(pid) if pid else 0.0
            result: dict[str, Any] = json.loads(client.stdout.readline())
            used = cpu_s(pid) - before if pid else 0.0
            client.kill()
    units = result["chunks"] if profile.stream else result["answers"]
    return {**result, "cpu_us": used / units * 1e6 if units else 0.0, "memory_mb": memory}


def row(name: str, profile: Profile, direct: dict[str, Any], through: dict[str, Any], seconds: float) -> str:
    unit = "chunk" if profile.stream else "request"
    rate = (through["chunks"] if profile.stream else through["answers"]) / seconds
    latency = "first_ms" if profile.stream else "latency_ms"
    added = "  ".join(f"{(b or 0) - (a or 0):+8.2f}" for a, b in zip(direct[latency], through[latency], strict=True))
    target = f"≤ {profile.target_us:.0f}" if profile.target_us else ""
    failed = direct["errors"] + through["errors"]
    errors = f"  {failed} ERRORS" if failed else ""
    return (
        f"{name:10} {profile.doc:34} {through['cpu_us']:8.1f} µs/{unit:8} {target:6} {rate:10,.0f}/s"
        f"  {added}  {through['memory_mb']:7.1f}{errors}"
    )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--seconds", type=float, default=5.0, help="measured time of each profile")
    options.add_argument("--profiles", default=",".join((*PROFILES, TELEMETRY)), help="comma-separated")
    chosen = options.parse_args()
    names = chosen.profiles.split(",")
    if unknown := set(names) - {*PROFILES, TELEMETRY}:
        options.error(f"no such profile: {', '.join(sorted(unknown))}; there are {', '.join(PROFILES)}, {TELEMETRY}")
    beside, names = TELEMETRY in names, [name for name in names if name != TELEMETRY]
    with (
        process([sys.executable, "-m", "tests.load.upstream"], "stdout", r"(\d+)") as (_, port),
        contextlib.ExitStack() as opened,
    ):
        upstream = f"http://127.0.0.1:{port}"
        redis_url = ""
        if any(PROFILES[name].limits == "redis" for name in names):
            redis_url = opened.enter_context(running_redis()).url
        for limits in dict.fromkeys(PROFILES[name].limits for name in names):
            with serving(config_of(upstream, limits, redis_url)) as (pid, gateway):
                print(f"gateway idle: {memory_mb(pid):.1f} MB; {os.cpu_count()} cores; one worker\n")
                head = f"{'profile':10} {'load':34} {'gateway CPU':>20} {'target':6} {'rate':>12}"
                print(f"{head}  added ms p50, p99  memory")
                for name in [name for name in names if PROFILES[name].limits == limits]:
                    profile = PROFILES[name]
                    run(name, profile, upstream, gateway, pid, chosen.seconds)
                print()
        if beside:
            compare_telemetry(upstream, chosen.seconds)
    return 0


def compare_telemetry(upstream: str, seconds: float) -> None:
    """Print what measuring adds: two gateways, one of which measures nothing, under the same load in turns."""
    with (
        serving(config_of(upstream)) as on,
        serving(config_of(upstream, telemetry=False)) as off,
    ):
        for name, target_us in TELEMETRY_TARGETS_US.items():
            profile = PROFILES[name]
            found: dict[int, list[float]] = {on[0]: [], off[0]: []}
            for _ in range(SLICES):
                for pid, gateway in (on, off):
                    result = measure(f"{gateway}/v1/chat/completions", profile, seconds / SLICES, pid)
                    found[pid].append(result["cpu_us"] if not result["errors"] else math.inf)
            # The least of each: anything else on the machine only adds.
            with_it, without = min(found[on[0]]), min(found[off[0]])
            unit = "chunk" if profile.stream else "request"
            print(
                f"{TELEMETRY:10} {profile.doc:34} {with_it - without:+8.2f} µs/{unit:8} ≤ {target_us:.0f}"
                f"  {with_it:.2f} with it, {without:.2f} without",
                flush=True,
            )


@contextlib.contextmanager
def serving(config: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Run a gateway; yield its process id and its URL."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gateway.yaml")
        path.write_text(json.dumps(config))
        with process(
            [sys.executable, "-m", "gateway", "serve", "--config", str(path)],
            "stderr",
            r'"url":"([^"]+)"',
            AWS_ACCESS_KEY_ID="AKIDEXAMPLE",
            AWS_SECRET_ACCESS_KEY="bench",
        ) as started:
            yield started


def run(name: str, profile: Profile, upstream: str, gateway: str, pid: int, seconds: float) -> None:
    """Measure one profile and print its row."""
    suffix = "invocations-response-stream" if profile.stream else "invocations"
    direct = measure(f"{upstream}/endpoints/bench/{suffix}", profile, min(seconds, 2.0), None)
    through = measure(f"{gateway}/v1/chat/completions", profile, seconds, pid)
    print(row(name, profile, direct, through, seconds), flush=True)


if __name__ == "__main__":
    sys.exit(main())
