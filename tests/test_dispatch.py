"""The walk of a call over fake deployments: which attempts are made, when they stop, and what each leaves running."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

from adapters.base import Adapter, Assembler, Call, StreamDecoder, Surface, Usage, Whole
from adapters.errors import ContainerFault, FaultKind, MalformedReply, UnsupportedParameter
from gateway import dispatch
from gateway.config.models import Deployment, Model
from gateway.dispatch import Dispatcher, fetch_as_stream
from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    InvalidRequest,
    ModelNotReady,
    UnsupportedParameterError,
    UpstreamAuth,
    UpstreamError,
    UpstreamFault,
    UpstreamMisconfigured,
    UpstreamProtocol,
    UpstreamRejected,
    UpstreamThrottled,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.faults import from_container
from gateway.routing.attempts import RetryBudget
from gateway.routing.catalog import ServedModel
from gateway.routing.lane import Lane
from gateway.sagemaker.errors import ContainerError, fault
from gateway.sagemaker.transport import Head, Receiver, Stream
from gateway.telemetry.events import CallRecord
from gateway.telemetry.silence import Silence
from tests.sagemaker.virtual import now, run

# --- the fakes -----------------------------------------------------------------------------------------------------

END, HANGS = "end", "hangs"
Act = bytes | Exception | str
"""What an upstream does: sends bytes, fails, ends, or says nothing more."""


class Running:
    """A stream of a fake upstream: it plays its acts one loop turn after the other."""

    def __init__(self, acts: list[Act], receiver: Receiver) -> None:
        self.aborted = 0
        self.over = False
        self._task = asyncio.ensure_future(self._play(acts, receiver))

    async def _play(self, acts: list[Act], receiver: Receiver) -> None:
        for act in acts:
            await asyncio.sleep(0)
            if isinstance(act, bytes):
                receiver.on_payload(act)
            elif isinstance(act, GatewayError | ContainerError):
                receiver.on_failure(act)
            elif act == END:
                receiver.on_end()
            else:
                await asyncio.Event().wait()
        self.over = True

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None:
        self.aborted += 1
        self._task.cancel()


class Upstream:
    """A target that does for its n-th request what the n-th script says, or the last one again."""

    def __init__(self, name: str, *scripts: list[Act], streams: bool = True, takes_s: float = 0.0) -> None:
        self.name = name
        self.streams = streams
        self.requests: list[tuple[str, bytes, str]] = []
        """Operation, body and inference id."""
        self.running: list[Running] = []
        self.released = 0
        """Whole calls that were cancelled."""
        self._scripts, self._takes_s = scripts, takes_s

    async def invoke(
        self, body: bytes, inference_id: str, head: Head | None = None, traceparent: str | None = None
    ) -> bytes:
        (act,) = await self._begin("whole", body, inference_id)
        if isinstance(act, Exception):
            raise act
        if act == HANGS:
            try:
                await asyncio.Event().wait()
            finally:
                self.released += 1
        assert isinstance(act, bytes)
        return act

    async def stream(
        self,
        body: bytes,
        inference_id: str,
        receiver: Receiver,
        head: Head | None = None,
        traceparent: str | None = None,
    ) -> Stream:
        acts = await self._begin("stream", body, inference_id)
        if isinstance(acts[0], str) and acts[0] == "connecting":
            await asyncio.Event().wait()
        if isinstance(acts[0], ConnectionError):
            raise fault(UpstreamUnavailable, "connect", retryable=True)
        self.running.append(Running(acts, receiver))
        return self.running[-1]

    async def _begin(self, operation: str, body: bytes, inference_id: str) -> list[Act]:
        self.requests.append((operation, body, inference_id))
        await asyncio.sleep(self._takes_s)
        return self._scripts[min(len(self.requests), len(self._scripts)) - 1]


class Reading:
    """Decoder and assembler of a dialect of records: `text;`, `done;`, `fault=KIND;`, `bad;`."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.chunks = 0
        self.complete = False
        self.fault: ContainerFault | None = None
        self.malformed: str | None = None
        self.dropped = 0
        self._text = b""

    def records(self, data: bytes) -> list[bytes]:
        events = []
        for record in data.split(b";")[:-1]:
            if record == b"done":
                self.complete = True
            elif record == b"bad":
                self.malformed = "not a record"
            elif record.startswith(b"fault="):
                self.fault = ContainerFault(FaultKind(record[6:].decode()), "the container's words")
            else:
                self._text += record
                events.append(record)
        self.chunks += len(events)
        return events


class Decoding(Reading):
    ended = False

    def feed(self, data: bytes) -> list[bytes]:
        return self.records(data)

    def end(self) -> list[bytes]:
        if not self.complete and self.fault is None:
            self.malformed = "cut short"
        return []


class Gathering(Reading):
    @property
    def over(self) -> bool:
        return self.fault is not None or self.malformed is not None or self.complete

    def feed(self, data: bytes) -> None:
        self.records(data)

    def end(self) -> Whole | None:
        if self.complete:
            return Whole(self._text, None)
        self.malformed = "cut short" if self._text else None
        return None


class Dialect:
    """An adapter whose requests tell which one wrote them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def encode(self, call: Call, *, stream: bool) -> bytes:
        if "top_k" in call.values:
            raise UnsupportedParameter("top_k is not supported.", "top_k")
        return f"{self.name} {'stream' if stream else 'whole'}".encode()

    def decode_whole(self, call: Call, body: bytes) -> Whole | ContainerFault:
        if body.startswith(b"fault="):
            return ContainerFault(FaultKind(body[6:].decode()), "the container's words")
        if body == b"bad":
            raise MalformedReply("not a reply")
        return Whole(body, None)

    def decode_error(self, status: int, body: bytes, call: Call | None = None) -> ContainerFault:
        kinds = {400: FaultKind.INVALID_REQUEST, 500: FaultKind.FAILED, 503: FaultKind.OVERLOADED}
        return ContainerFault(kinds[status], body.decode())

    def stream_decoder(self, call: Call) -> StreamDecoder:
        return Decoding()

    def assembler(self, call: Call) -> Assembler:
        return Gathering()


class Ledger(Silence):
    """Telemetry that writes down the attempts."""

    def __init__(self) -> None:
        self.attempts: list[tuple[str, str, str]] = []
        self.retries: list[tuple[str, str]] = []
        self.in_flight: Counter[tuple[str, str]] = Counter()

    def attempt_began(self, model: str, lane: str) -> None:
        self.in_flight[model, lane] += 1

    def retried(self, model: str, kind: str) -> None:
        self.retries.append((model, kind))

    def attempt(self, model: str, lane: str, code: str, *, lasts: bool = False) -> None:
        self.in_flight[model, lane] -= not lasts
        if code != "cancelled":
            self.attempts.append((model, lane, code))


class Caller:
    """A sink that remembers its attempts and what they brought."""

    def __init__(self) -> None:
        self.expected: list[StreamDecoder] = []
        self.events: list[bytes] = []
        self.detached = 0
        self._stream: Stream | None = None
        self._first: asyncio.Future[None]
        self._live = False

    def expect(self, decoder: StreamDecoder) -> asyncio.Future[None]:
        self.expected.append(decoder)
        self._first = asyncio.get_running_loop().create_future()
        self._live = True
        return self._first

    def attach(self, stream: Stream) -> None:
        self._stream = stream

    def detach(self) -> None:
        self.detached += 1
        self._live = False
        if self._stream is not None:
            self._stream.abort()
            self._stream = None

    def on_payload(self, data: bytes) -> None:
        assert self._live, "an attempt that was given up speaks"
        decoder = self.expected[-1]
        self.events += decoder.feed(data)
        if decoder.fault is not None and not self._first.done():
            self._first.set_exception(from_container(decoder.fault))
        elif self.events and not self._first.done():
            self._first.set_result(None)

    def on_end(self) -> None: ...

    def on_failure(self, error: GatewayError | ContainerError) -> None:
        if not self._first.done():
            self._first.set_exception(error)


class Unlimited(RetryBudget):
    def spend(self) -> bool:
        return True


# --- one call ------------------------------------------------------------------------------------------------------


def served(*upstreams: Upstream, attempts: int = 2, unary: str = "invoke") -> ServedModel:
    deployments = tuple(
        Deployment(endpoint="chat", region="us-east-1", container="lmi", version="15") for _ in upstreams
    )
    config = Model.model_validate(
        {
            "name": "m",
            "deployments": deployments,
            "attempts": attempts,
            "unary": unary,
            "unary_stream_above_tokens": 100,
        }
    )
    adapters: list[Adapter] = [Dialect(f"adapter of {upstream.name}") for upstream in upstreams]
    return ServedModel(config, tuple(Lane(up, adapter, 1) for up, adapter in zip(upstreams, adapters, strict=True)))


def asking(surface: Surface = Surface.CHAT, max_tokens: int | None = 16, stream: bool = False, **values: Any) -> Call:
    return Call(surface, "m", {}, values, stream, include_usage=False, choices=1, max_tokens=max_tokens)


class Walk:
    """A dispatcher, and the record and telemetry of what it did."""

    def __init__(self, budget: RetryBudget | None = None) -> None:
        self.ledger = Ledger()
        self.dispatcher = Dispatcher(budget or Unlimited(), self.ledger)
        self.record = CallRecord("chat", "req_1", 0.0)
        self.caller = Caller()

    async def complete(self, model: ServedModel, call: Call | None = None) -> bytes:
        return (await self.dispatcher.complete(model, call or asking(), self.record)).body

    async def stream(self, model: ServedModel, call: Call | None = None) -> StreamDecoder:
        return await self.dispatcher.stream(model, call or asking(stream=True), self.record, self.caller)

    @property
    def codes(self) -> list[str]:
        return [f"{lane}: {code}" for _, lane, code in self.ledger.attempts]


def unavailable() -> GatewayError:
    return fault(UpstreamUnavailable, "503", retryable=True)


def refusal(work: Coroutine[Any, Any, Any]) -> GatewayError:
    """Return the error a walk ends with."""

    async def main() -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await work
        return caught.value

    return run(main())


# --- what is kept of attempts --------------------------------------------------------------------------------------


def test_each_attempt_is_kept_in_order_and_what_is_in_flight_is_given_back() -> None:
    a, b, walk = Upstream("a", [unavailable()]), Upstream("b", [b"hello"]), Walk()
    assert run(walk.complete(served(a, b))) == b"hello"
    first, second = walk.record.tries
    assert [(one.lane, one.code) for one in (first, second)] == [("a", "upstream_unavailable"), ("b", "ok")]
    assert first.began <= first.ended <= second.began <= second.ended
    assert walk.record.upstream_s == pytest.approx((first.ended - first.began) + (second.ended - second.began))
    assert walk.record.trying_since is None
    assert walk.ledger.retries == [("m", "other")]
    assert walk.ledger.in_flight == {("m", "a"): 0, ("m", "b"): 0}


def test_an_attempt_at_the_only_deployment_is_a_retry_at_the_same() -> None:
    a, walk = Upstream("a", [unavailable()], [b"hello"]), Walk()
    assert run(walk.complete(served(a))) == b"hello"
    assert walk.ledger.retries == [("m", "same")]


def test_a_stream_stays_in_flight_after_its_first_event() -> None:
    a, walk = Upstream("a", [b"text;", "hangs"]), Walk()
    run(walk.stream(served(a)))
    assert walk.ledger.in_flight == {("m", "a"): 1}
    assert [one.code for one in walk.record.tries] == ["ok"]


def test_an_attempt_that_is_left_is_kept_as_cancelled() -> None:
    a, walk = Upstream("a", [HANGS]), Walk()

    async def main() -> None:
        asking_for_it = asyncio.ensure_future(walk.complete(served(a)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert a.requests
        asking_for_it.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking_for_it

    run(main())
    (one,) = walk.record.tries
    assert (one.lane, one.code, one.head, one.status) == ("a", "cancelled", None, 0)
    assert walk.ledger.in_flight == {("m", "a"): 0}
    assert walk.ledger.attempts == []


# --- whole replies -------------------------------------------------------------------------------------------------


def test_a_whole_reply_takes_one_attempt() -> None:
    a, b, walk = Upstream("a", [b"hello"]), Upstream("b", [b"hello"]), Walk()
    assert run(walk.complete(served(a, b))) == b"hello"
    assert a.requests == [("whole", b"adapter of a whole", "req_1")]
    assert b.requests == []
    assert walk.ledger.attempts == [("m", "a", "ok")]
    assert (walk.record.lane, walk.record.attempts) == ("a", 1)


@pytest.mark.parametrize("act", [
    pytest.param(unavailable(), id="SageMaker says so"),
    pytest.param(ContainerError(503, b"busy"), id="the container answers so"),
    pytest.param(b"fault=overloaded", id="the container says so with a status of success"),
    pytest.param(b"fault=unavailable", id="its engine is down"),
    pytest.param(fault(UpstreamError, "dropped", retryable=True), id="dropped before any byte"),
])  # fmt: skip
def test_what_left_nothing_running_is_tried_on_another_lane_in_its_own_dialect(act: Act) -> None:
    a, b, walk = Upstream("a", [act]), Upstream("b", [b"hello"]), Walk()
    assert run(walk.complete(served(a, b))) == b"hello"
    assert [a.requests, b.requests] == [
        [("whole", b"adapter of a whole", "req_1")], [("whole", b"adapter of b whole", "req_1")]
    ]  # fmt: skip
    assert walk.codes[1] == "b: ok"
    assert (walk.record.lane, walk.record.attempts) == ("b", 2)


@pytest.mark.parametrize(("act", "kind"), [
    pytest.param(fault(UpstreamAuth, "x"), UpstreamAuth, id="credentials"),
    pytest.param(fault(UpstreamThrottled, "x"), UpstreamThrottled, id="throttled"),
    pytest.param(fault(ModelNotReady, "x"), ModelNotReady, id="not ready"),
    pytest.param(fault(UpstreamTimeout, "x"), UpstreamTimeout, id="a time limit"),
    pytest.param(fault(UpstreamError, "x"), UpstreamError, id="broken after a byte"),
    pytest.param(ContainerError(400, b"no"), InvalidRequest, id="the request is wrong"),
    pytest.param(ContainerError(500, b"oops"), UpstreamError, id="the container failed"),
    pytest.param(b"fault=failed", UpstreamError, id="the container failed with a status of success"),
    pytest.param(b"fault=context_length", ContextLengthExceeded, id="too long"),
    pytest.param(b"fault=rejected", UpstreamRejected, id="refused without a reason"),
    pytest.param(b"fault=misconfigured", UpstreamMisconfigured, id="misconfigured"),
    pytest.param(b"bad", UpstreamProtocol, id="a reply that is none"),
])  # fmt: skip
def test_anything_else_ends_the_walk_at_once(act: Act, kind: type[GatewayError]) -> None:
    a, b, walk = Upstream("a", [act]), Upstream("b", [b"hello"]), Walk()
    error = refusal(walk.complete(served(a, b, attempts=5)))
    assert type(error) is kind
    assert (len(a.requests), b.requests, walk.codes) == (1, [], [f"a: {kind.code}"])
    assert walk.record.attempts == 1


def test_a_parameter_the_dialect_lacks_is_the_callers_and_nothing_is_sent() -> None:
    a, walk = Upstream("a", [b"hello"]), Walk()
    for work in (walk.complete(served(a), asking(top_k=1)), walk.stream(served(a), asking(top_k=1))):
        error = refusal(work)
        assert isinstance(error, UnsupportedParameterError)
        assert (error.message, error.param, error.status) == ("top_k is not supported.", "top_k", 400)
    assert a.requests == []


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
def test_never_more_than_the_models_attempts(attempts: int) -> None:
    upstreams, walk = [Upstream(name, [unavailable()]) for name in "abc"], Walk()
    assert isinstance(refusal(walk.complete(served(*upstreams, attempts=attempts))), UpstreamUnavailable)
    assert walk.codes[:3] == [f"{name}: upstream_unavailable" for name in "abc"[:attempts]]
    assert (len(walk.codes), walk.record.attempts) == (attempts, attempts)
    assert sum(len(upstream.requests) for upstream in upstreams) == attempts


def test_a_single_lane_is_tried_again() -> None:
    a, walk = Upstream("a", [unavailable()], [b"hello"]), Walk()
    assert run(walk.complete(served(a))) == b"hello"
    assert walk.codes == ["a: upstream_unavailable", "a: ok"]


def test_the_last_attempts_reason_is_the_callers() -> None:
    a, b = Upstream("a", [unavailable()]), Upstream("b", [fault(UpstreamThrottled, "x")])
    assert isinstance(refusal(Walk().complete(served(a, b))), UpstreamThrottled)


def test_further_attempts_are_a_tenth_of_the_calls() -> None:
    a, walk = Upstream("a", [unavailable()]), Walk(RetryBudget())
    model = served(a, attempts=5)
    made = []
    for _ in range(23):
        before = len(a.requests)
        refusal(walk.complete(model))
        made.append(len(a.requests) - before)
    assert made == [4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1]


def test_calls_that_succeed_earn_what_failing_ones_spend() -> None:
    budget = RetryBudget()
    for _ in range(3):
        budget.spend()
    walk, good = Walk(budget), served(Upstream("a", [b"hello"]))
    bad = Upstream("b", [unavailable()])
    refusal(walk.complete(served(bad)))
    assert len(bad.requests) == 1
    for _ in range(9):
        run(walk.complete(good))
    refusal(walk.complete(served(bad)))
    assert len(bad.requests) == 3


def test_each_further_attempt_waits_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def backoff_s(attempt: int) -> float:
        return 10.0 * attempt

    async def main() -> float:
        with pytest.raises(UpstreamUnavailable):
            await walk.complete(served(Upstream("a", [unavailable()]), attempts=4))
        return now()

    walk = Walk()
    monkeypatch.setattr(dispatch, "backoff_s", backoff_s)
    assert run(main()) == pytest.approx(20 + 30 + 40)


def test_the_time_upstream_is_that_of_all_attempts_without_the_waiting_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "backoff_s", lambda attempt: 100.0)
    monkeypatch.setattr(dispatch, "monotonic", now)
    walk = Walk()
    model = served(Upstream("a", [unavailable()], takes_s=2.0), Upstream("b", [b"hello"], takes_s=3.0))
    run(walk.complete(model))
    assert walk.record.upstream_s == pytest.approx(5.0)


async def cancelled(work: Coroutine[Any, Any, Any], after_s: float = 1.0) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.sleep(after_s)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(1_000)


def test_a_caller_who_leaves_releases_the_upstream_and_is_tried_no_further() -> None:
    a, b = Upstream("a", [HANGS]), Upstream("b", [b"hello"])
    run(cancelled(Walk().complete(served(a, b))))
    assert (a.released, len(a.requests), b.requests) == (1, 1, [])


def test_a_caller_who_leaves_between_attempts_is_tried_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "backoff_s", lambda attempt: 10.0)
    a, b = Upstream("a", [unavailable()]), Upstream("b", [b"hello"])
    run(cancelled(Walk().complete(served(a, b))))
    assert (len(a.requests), b.requests) == (1, [])


# --- streams -------------------------------------------------------------------------------------------------------


def test_a_stream_is_its_sinks_from_the_first_event_on() -> None:
    async def main() -> None:
        a, walk = Upstream("a", [b"one;", b"two;", b"done;", END]), Walk()
        decoder = await walk.stream(served(a))
        assert walk.caller.events == [b"one"]
        assert walk.caller.expected == [decoder]
        assert a.requests == [("stream", b"adapter of a stream", "req_1")]
        await asyncio.sleep(1)
        assert walk.caller.events == [b"one", b"two"]
        assert (a.running[0].over, a.running[0].aborted, walk.caller.detached) == (True, 0, 0)
        assert (walk.codes, walk.record.lane, walk.record.attempts) == (["a: ok"], "a", 1)

    run(main())


@pytest.mark.parametrize("acts", [
    pytest.param([unavailable()], id="SageMaker says so"),
    pytest.param([ContainerError(503, b"busy")], id="the container answers so"),
    pytest.param([b"fault=overloaded;", HANGS], id="its first record says so"),
    pytest.param([ConnectionError()], id="no connection"),
])  # fmt: skip
def test_a_stream_that_fails_before_its_first_event_goes_to_another_lane(acts: list[Act]) -> None:
    async def main() -> None:
        a, b, walk = Upstream("a", acts), Upstream("b", [b"one;", HANGS]), Walk()
        decoder = await walk.stream(served(a, b))
        assert walk.caller.events == [b"one"]
        assert walk.caller.expected[1:] == [decoder]
        assert [stream.aborted for stream in a.running] == [1] * len(a.running)
        assert (b.running[0].aborted, walk.caller.detached) == (0, 1)
        assert [body for _, body, _ in a.requests + b.requests] == [b"adapter of a stream", b"adapter of b stream"]
        assert walk.codes == ["a: upstream_unavailable", "b: ok"]

    run(main())


@pytest.mark.parametrize(("acts", "kind"), [
    pytest.param([fault(UpstreamTimeout, "x")], UpstreamTimeout, id="a time limit"),
    pytest.param([ContainerError(400, b"no")], InvalidRequest, id="the request is wrong"),
    pytest.param([b"fault=failed;", HANGS], UpstreamError, id="its first record says it failed"),
])  # fmt: skip
def test_a_stream_that_fails_otherwise_ends_the_walk_and_leaves_nothing_running(
    acts: list[Act], kind: type[GatewayError]
) -> None:
    a, b, walk = Upstream("a", acts), Upstream("b", [b"one;", HANGS]), Walk()
    assert type(refusal(walk.stream(served(a, b)))) is kind
    assert (a.running[0].aborted, b.requests, walk.caller.detached) == (1, [], 1)


def test_a_deployment_that_cannot_stream_says_so_and_is_sent_nothing() -> None:
    a, walk = Upstream("a", [b"one;"], streams=False), Walk()
    error = refusal(walk.stream(served(a)))
    assert isinstance(error, UnsupportedParameterError)
    assert (error.param, error.status, a.requests, walk.caller.expected) == ("stream", 400, [], [])


@pytest.mark.parametrize("act", [
    pytest.param("connecting", id="while connecting"), pytest.param(HANGS, id="before the first event")
])  # fmt: skip
def test_a_caller_who_leaves_before_the_first_event_aborts_the_stream(act: str) -> None:
    a, b, walk = Upstream("a", [act]), Upstream("b", [b"one;"]), Walk()
    run(cancelled(walk.stream(served(a, b))))
    assert [stream.aborted for stream in a.running] == [1] * (act == HANGS)
    assert (b.requests, walk.caller.detached) == ([], 1)


# --- whole replies fetched as streams ------------------------------------------------------------------------------


def test_a_reply_gathered_from_a_stream() -> None:
    a, walk = Upstream("a", [b"one;", b"two;done;", END]), Walk()
    assert run(walk.complete(served(a, unary="stream"))) == b"onetwo"
    assert a.requests == [("stream", b"adapter of a stream", "req_1")]
    assert walk.codes == ["a: ok"]


@pytest.mark.parametrize("kind", [UpstreamError, UpstreamProtocol, UpstreamTimeout])
def test_a_connection_lost_after_the_last_record_takes_nothing_from_the_reply(kind: type[UpstreamFault]) -> None:
    a, walk = Upstream("a", [b"one;two;done;", fault(kind, "lost")]), Walk()
    assert run(walk.complete(served(a, unary="stream"))) == b"onetwo"


def test_an_upstream_that_does_not_end_after_the_last_record_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.dispatch.DRAIN_S", 0.01)
    a, walk = Upstream("a", [b"one;two;done;", HANGS]), Walk()
    assert run(walk.complete(served(a, unary="stream"))) == b"onetwo"
    assert a.running[0].aborted == 1


@pytest.mark.parametrize(("acts", "kind", "detail"), [
    pytest.param(
        [b"one;", b"fault=failed;", HANGS], UpstreamError, "container: failed",
        id="the container fails",
    ),
    pytest.param([b"fault=invalid_request;", HANGS], InvalidRequest, None, id="the container refuses"),
    pytest.param([b"one;bad;", HANGS], UpstreamProtocol, "not a record", id="garbage"),
    pytest.param([b"one;", END], UpstreamProtocol, "cut short", id="no end mark"),
    pytest.param([END], UpstreamProtocol, "the stream held no reply", id="nothing"),
    pytest.param([b"one;", fault(UpstreamTimeout, "gap")], UpstreamTimeout, "gap", id="a time limit"),
    pytest.param([b"one;", fault(UpstreamError, "lost")], UpstreamError, "lost", id="a connection lost too early"),
    pytest.param([ContainerError(400, b"no")], InvalidRequest, None, id="an answer instead of a stream"),
    pytest.param(
        [b"bad;", b"fault=failed;", END, fault(UpstreamTimeout, "x")], UpstreamProtocol, "not a record",
        id="only the first reason",
    ),
])  # fmt: skip
def test_a_stream_that_holds_no_whole_reply_leaves_nothing_running(
    acts: list[Act], kind: type[GatewayError], detail: str | None
) -> None:
    a, b, walk = Upstream("a", acts), Upstream("b", [b"one;done;", END]), Walk()
    error = refusal(walk.complete(served(a, b, unary="stream")))
    assert (type(error), error.detail) == (kind, detail)
    assert (a.running[0].aborted, b.requests) == (1, [])


@pytest.mark.parametrize("acts", [
    pytest.param([unavailable()], id="SageMaker says so"),
    pytest.param([b"one;", b"fault=overloaded;", HANGS], id="the container says so in mid-stream"),
    pytest.param([ConnectionError()], id="no connection"),
])  # fmt: skip
def test_a_gathered_reply_is_tried_again_on_another_lane(acts: list[Act]) -> None:
    a, b, walk = Upstream("a", acts), Upstream("b", [b"two;done;", END]), Walk()
    assert run(walk.complete(served(a, b, unary="stream"))) == b"two"
    assert [stream.aborted for stream in a.running] == [1] * len(a.running)
    assert walk.codes == ["a: upstream_unavailable", "b: ok"]


def test_a_caller_who_leaves_while_a_reply_is_gathered_aborts_the_stream() -> None:
    a, walk = Upstream("a", [b"one;", HANGS]), Walk()
    run(cancelled(walk.complete(served(a, unary="stream"))))
    assert a.running[0].aborted == 1


def test_a_deployment_that_cannot_stream_is_asked_for_a_whole_reply_all_the_same() -> None:
    a, walk = Upstream("a", [b"hello"], streams=False), Walk()
    assert run(walk.complete(served(a, unary="stream"))) == b"hello"
    assert a.requests == [("whole", b"adapter of a whole", "req_1")]


@pytest.mark.parametrize(("unary", "call", "as_stream"), [
    pytest.param("invoke", asking(max_tokens=None), False, id="invoke: never"),
    pytest.param("stream", asking(max_tokens=1), True, id="stream: even a short one"),
    pytest.param("stream", asking(prompt_logprobs=1), False, id="stream: not if something were lost"),
    pytest.param("auto", asking(max_tokens=100), False, id="auto: up to the threshold"),
    pytest.param("auto", asking(max_tokens=101), True, id="auto: above the threshold"),
    pytest.param("auto", asking(max_tokens=None), True, id="auto: any number of tokens"),
    pytest.param("auto", asking(max_tokens=None, logprobs=True), False, id="auto: not if something were lost"),
    pytest.param("auto", asking(Surface.COMPLETIONS, None), False, id="auto: a completion makes 16 by default"),
    pytest.param("auto", asking(Surface.COMPLETIONS, 101), True, id="auto: a long completion"),
    pytest.param("auto", asking(Surface.COMPLETIONS, 101, best_of=2), False, id="auto: best of two"),
])  # fmt: skip
def test_when_a_whole_reply_is_fetched_as_a_stream(unary: str, call: Call, as_stream: bool) -> None:
    a = Upstream("a", [b"one;done;", END] if as_stream else [b"one;done;"])
    model = served(a, unary=unary)
    assert fetch_as_stream(model, call) is as_stream
    run(Walk().complete(model, call))
    assert [operation for operation, _, _ in a.requests] == ["stream" if as_stream else "whole"]
