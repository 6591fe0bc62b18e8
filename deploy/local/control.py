"""The control route, /_local/, on the port of the data plane and for callers on this machine alone.

    POST   /_local/faults                a fault's options + endpoint, operation, times, probability, seed → {"id"}
    GET    /_local/faults                the faults that may still act
    DELETE /_local/faults[/ID]           forget all (stalled calls go on) or one
    GET    /_local/calls                 the recorded calls, oldest first
    GET    /_local/calls/N               call number N
    GET    /_local/calls/N/started       … once it is there         \
    GET    /_local/calls/N/ended         … once nothing runs for it  } ?timeout_s=S (10, at most 60); 408 if it is late
    GET    /_local/calls/N/frames/K      … once K frames are out    /
    GET    /_local/connections           {"open", "accepted"}, without those that served this route
    GET    /_local/endpoints             {name: {"variant", "components"}}
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs

import msgspec

from deploy.local.calls import Call
from deploy.local.httpreply import Reply, Request
from deploy.local.runtime import Runtime

PREFIX = "/_local/"
DEFAULT_WAIT_S = 10.0
MAX_WAIT_S = 60.0
ENVELOPE = frozenset({"endpoint", "operation", "times", "probability", "seed"})


class _Envelope(msgspec.Struct, frozen=True):
    endpoint: str | None = None
    operation: str | None = None
    times: int | None = 1
    probability: float = 1.0
    seed: int | None = None


Action = Callable[["Control", Request, list[str]], Awaitable[tuple[int, object]]]


class Control:
    """Answers /_local/ for one server."""

    def __init__(self, runtime: Runtime, connections: Callable[[], Mapping[str, int]]) -> None:
        self._runtime = runtime
        self._connections = connections

    async def serve(self, request: Request, reply: Reply) -> None:
        """Answer one control request with JSON."""
        reply.mark_control()
        answer: object
        if not is_loopback(request.peer):
            status, answer = 403, _error("the control route is for this machine alone")
        else:
            status, answer = await self._answer(request)
        body = json.dumps(answer, ensure_ascii=False).encode()
        reply.send(status, [("Content-Type", "application/json")], body)

    async def _answer(self, request: Request) -> tuple[int, object]:
        for method, pattern, action in ROUTES:
            found = re.fullmatch(pattern, request.path.removeprefix(PREFIX))
            if found is None or method != request.method:
                continue
            try:
                return await action(self, request, list(found.groups()))
            except (ValueError, msgspec.MsgspecError) as error:
                return 400, _error(str(error))
            except LookupError as error:
                return 404, _error(str(error.args[0]))
            except TimeoutError as error:
                return 408, _error(str(error))
        return 404, _error(f"nothing at {request.method} {request.path}")

    async def _add_fault(self, request: Request, _: list[str]) -> tuple[int, object]:
        options = msgspec.json.decode(request.body, type=dict[str, object])
        envelope = msgspec.convert({k: v for k, v in options.items() if k in ENVELOPE}, _Envelope)
        fault_id = self._runtime.faults.add(
            {name: value for name, value in options.items() if name not in ENVELOPE},
            endpoint=envelope.endpoint,
            operation=envelope.operation,
            times=envelope.times,
            probability=envelope.probability,
            seed=envelope.seed,
        )
        return 201, {"id": fault_id}

    async def _list_faults(self, request: Request, _: list[str]) -> tuple[int, object]:
        return 200, {
            "faults": [
                {
                    "id": waiting.id,
                    "endpoint": waiting.endpoint,
                    "operation": waiting.operation,
                    "left": waiting.left,
                    "probability": waiting.probability,
                    **msgspec.to_builtins(waiting.fault),
                }
                for waiting in self._runtime.faults.waiting()
            ]
        }

    async def _clear_faults(self, request: Request, _: list[str]) -> tuple[int, object]:
        self._runtime.faults.clear()
        return 200, {}

    async def _remove_fault(self, request: Request, parts: list[str]) -> tuple[int, object]:
        if not self._runtime.faults.remove(int(parts[0])):
            raise LookupError(f"there is no fault {parts[0]}")
        return 200, {}

    async def _list_calls(self, request: Request, _: list[str]) -> tuple[int, object]:
        return 200, {"calls": [call.as_json() for call in self._runtime.calls.all()]}

    async def _get_call(self, request: Request, parts: list[str]) -> tuple[int, object]:
        found = next((call for call in self._runtime.calls.all() if call.n == int(parts[0])), None)
        if found is None:
            raise LookupError(f"there is no call {parts[0]}")
        return 200, found.as_json()

    async def _call_started(self, request: Request, parts: list[str]) -> tuple[int, object]:
        return await self._wait(request, parts, lambda call: True)

    async def _call_ended(self, request: Request, parts: list[str]) -> tuple[int, object]:
        return await self._wait(request, parts, lambda call: call.ended)

    async def _call_frames(self, request: Request, parts: list[str]) -> tuple[int, object]:
        frames = int(parts[1])
        return await self._wait(request, parts, lambda call: call.frames_sent >= frames)

    async def _wait(self, request: Request, parts: list[str], wanted: Callable[[Call], bool]) -> tuple[int, object]:
        given = parse_qs(request.query).get("timeout_s", [str(DEFAULT_WAIT_S)])
        timeout_s = min(float(given[0]), MAX_WAIT_S)
        return 200, (await self._runtime.calls.wait(int(parts[0]), wanted, timeout_s)).as_json()

    async def _count_connections(self, request: Request, _: list[str]) -> tuple[int, object]:
        return 200, dict(self._connections())

    async def _list_endpoints(self, request: Request, _: list[str]) -> tuple[int, object]:
        return 200, {
            name: {"variant": endpoint.variant, "components": dict(endpoint.components)}
            for name, endpoint in self._runtime.endpoints.items()
        }


ROUTES: tuple[tuple[str, str, Action], ...] = (
    ("POST", r"faults", Control._add_fault),
    ("GET", r"faults", Control._list_faults),
    ("DELETE", r"faults", Control._clear_faults),
    ("DELETE", r"faults/(\d{1,9})", Control._remove_fault),
    ("GET", r"calls", Control._list_calls),
    ("GET", r"calls/(\d{1,9})", Control._get_call),
    ("GET", r"calls/(\d{1,9})/started", Control._call_started),
    ("GET", r"calls/(\d{1,9})/ended", Control._call_ended),
    ("GET", r"calls/(\d{1,9})/frames/(\d{1,9})", Control._call_frames),
    ("GET", r"connections", Control._count_connections),
    ("GET", r"endpoints", Control._list_endpoints),
)


def is_loopback(peer: str) -> bool:
    """Return whether an address is of this machine."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _error(text: str) -> dict[str, str]:
    return {"error": text}
