"""A gateway process and the local SageMaker behind it, and what the tests ask of both."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.local import Call, Container, Endpoint
from deploy.local.engine import build
from tests.faults.wire import CHAT, Answer, Caller, NoAnswer, ask, chat, request
from tests.support.stack import Gateway, Local, config, model, running_gateway, running_local

HASTY = {"connect_s": 1, "first_byte_s": 0.4, "gap_s": 0.3, "total_s": 30}
BRIEF = {"connect_s": 1, "first_byte_s": 30, "gap_s": 30, "total_s": 0.8}
MAX_BODY_BYTES = 1_000_000
MAX_REPLY_BYTES = 1 << 20

# Public name → the dialect behind it, and what its entry in the models file says. Whole replies are fetched whole.
ALLOWED_HOST = "images.example.com"
KINDS: dict[str, dict[str, Any]] = {
    "": {},
    "-assembled": {"unary": "stream"},
    "-hosts": {"image_hosts": [ALLOWED_HOST], "media": {"urls": "pass"}},
    "-fetch": {"image_hosts": [ALLOWED_HOST], "media": {"urls": "fetch"}},
    "-hasty": {"timeouts": HASTY},
    "-brief": {"timeouts": BRIEF},
}
# Nothing outside this machine is named or called: what is fetched has tests of its own, with a web of its own.
PLAIN = {"unary": "invoke", "modalities": ["text", "image", "audio", "video"], "media": {"urls": "off"}}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    f"{dialect}{suffix}": (dialect, {**PLAIN, **options})
    for dialect in ("vllm", "lmi")
    for suffix, options in KINDS.items()
}


UPSTREAM_HEADERS = {
    "accept", "authorization", "content-length", "content-type", "host", "x-amz-date", "x-amzn-sagemaker-accept",
    "x-amzn-sagemaker-inference-id",
}  # fmt: skip
"""All that reaches SageMaker of a call, with these models."""


def models() -> list[dict[str, Any]]:
    """Return the entries of the models file."""
    versions = {"vllm": "0.33", "lmi": "27"}
    return [
        model(name, dialect, versions[dialect], context_length=100_000, **options)
        for name, (dialect, options) in MODELS.items()
    ]


class World:
    """A gateway and its upstream."""

    def __init__(self, local: Local, gateway: Gateway) -> None:
        self.local = local
        self.gateway = gateway
        self.port = gateway.port
        self._first_call = 0
        self._callers: list[Caller] = []
        self._scraper = Caller(self.port)
        self.base_files = min(self.open_files() for _ in range(10))
        """What is open as long as the gateway runs, and this look at it."""

    # The caller's side

    def ask(self, body: bytes | Mapping[str, Any], **options: Any) -> Answer:
        """Post `body` on a connection of its own and return the answer."""
        return ask(self.port, body, **options)

    def caller(self, **options: Any) -> Caller:
        """Return a new caller; a test need not close it."""
        caller = Caller(self.port, **options)
        self._callers.append(caller)
        return caller

    def asking(self, body: bytes | Mapping[str, Any], *, path: str = CHAT, **options: Any) -> Caller:
        """Return a caller who has sent `body` and has not read a byte yet."""
        caller = self.caller(**options)
        caller.send(request("POST", path, body))
        return caller

    # The upstream's side

    def fault(self, *faults: Any, **options: Any) -> None:
        for fault in faults:
            self.local.add_fault(fault, **options)

    @property
    def call_count(self) -> int:
        """Calls that have reached SageMaker."""
        return self.local.calls[-1].n if self.local.calls else 0

    def next_call(self, *, timeout_s: float = 10.0) -> Call:
        """Return the newest call, once it is there; call `begin` or read `call_count` before."""
        return self.local.call_started(self._first_call + 1, timeout_s=timeout_s)

    def calls(self) -> list[Call]:
        """Return the calls since the test began, oldest first."""
        return [call for call in self.local.calls if call.n > self._first_call]

    # The gateway's own counts

    def samples(self) -> dict[str, float]:
        """Return every sample of /metrics: `name{label="value"}` → value."""
        try:
            text = self._scrape()
        except (OSError, NoAnswer):  # the gateway closes a connection on which nothing has been asked for long
            self._scraper.close()
            self._scraper = Caller(self.port)
            text = self._scrape()
        lines = text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def _scrape(self) -> str:
        self._scraper.send(request("GET", "/metrics", key=None))
        return self._scraper.answer(to="GET").body.decode()

    def counted(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        return sum(
            value
            for sample, value in self.samples().items()
            if sample.partition("{")[0] == name and wanted <= set(re.findall(r'\w+="[^"]*"', sample))
        )

    def until(self, wanted: Any, *, timeout_s: float = 5.0) -> Any:
        """Ask again and again until `wanted()` is true, for what no event announces; return it."""
        deadline = time.monotonic() + timeout_s
        while not (found := wanted()):
            assert time.monotonic() < deadline, f"not within {timeout_s} s"
            time.sleep(0.005)
        return found

    def begin(self) -> None:
        """Remember where a test starts."""
        self._first_call = self.call_count

    def settle(self) -> None:
        """End all that a test began, and fail if the gateway still works for it: calls, here or there, or files."""
        while self._callers:
            self._callers.pop().close()
        self.local.clear_faults()
        self.until(self._idle)
        for call in self.calls():
            self.local.call_ended(call.n)

    def _idle(self) -> bool:
        samples = self.samples()
        return samples["gateway_calls_in_flight"] == 0 and self.open_files(samples) <= self.base_files

    def earn_retries(self) -> None:
        """Fill the retry budget: a first attempt earns a tenth of a retry, and three are the most it holds."""
        with Caller(self.port) as caller:
            for _ in range(30):
                caller.send(request("POST", CHAT, chat("vllm", max_tokens=5)))
                assert caller.answer().status == 200
        self.begin()

    def close(self) -> None:
        """End the connection over which it counts."""
        self._scraper.close()

    # The process

    def cpu_s(self) -> float:
        """Return the processor time the gateway has used so far."""
        # The clock of another process: https://man7.org/linux/man-pages/man3/clock_getcpuclockid.3.html
        return time.clock_gettime(~self.gateway.pid << 3 | 2)

    def rss_bytes(self) -> int:
        """Return the gateway's resident memory."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.gateway.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def open_files(self, samples: Mapping[str, float] | None = None) -> int:
        """Return how many descriptors the gateway has open, but for its pooled connections to SageMaker."""
        pooled = int((samples or self.samples())["gateway_upstream_connections"])
        return len(list(Path(f"/proc/{self.gateway.pid}/fd").iterdir())) - pooled


@contextlib.contextmanager
def running_world(
    containers: Mapping[str, Container | Endpoint] | None = None, entries: Any = None, **settings: Any
) -> Iterator[World]:
    """Start both; without other containers and entries of the models file those of MODELS."""
    if containers is None:
        engines = {"vllm": build("vllm-0.33"), "lmi": build("lmi27")}
        containers = {name: engines[dialect] for name, (dialect, _) in MODELS.items()}
    # Of calls only those are logged that fail by no doing of their callers': most tests expect none of that kind.
    usual = {"max_body_bytes": MAX_BODY_BYTES, "max_reply_bytes": MAX_REPLY_BYTES, "log_calls": "failed"}
    settings = {**usual, **settings}
    with (
        running_local(containers) as local,
        running_gateway(config(local.url, *(entries or models()), **settings)) as gateway,
    ):
        world = World(local, gateway)
        try:
            yield world
        finally:
            world.close()
