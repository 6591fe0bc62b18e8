"""A relayed answer that has no end mark, and errors in words of its own: what TGI's streams need of a relay."""

from __future__ import annotations

from typing import Any, cast

from gateway.errors import GatewayError, UpstreamError
from gateway.http.protocol import GatewayProtocol
from gateway.http.relay import DRAIN_S, Ending, Relay
from gateway.http.tgi_errors import event_of
from tests.http.test_http_relay import HEAD, WRITE_TIMEOUT_S, Connection, Decoder, Stream, scenario
from tests.sagemaker.virtual import now


class Unmarked(Decoder):
    """Says nothing where the other says that the answer is complete: its last event is `z`."""

    def feed(self, data: bytes) -> list[bytes]:
        events = super().feed(data)
        self.ended = self.complete
        return events

    def end(self) -> list[bytes]:
        if not self.complete:
            self.malformed = "no end"
        return []


class Scene:
    def __init__(self, **options: Any) -> None:
        self.connection = Connection()
        self.relay = Relay(
            cast("GatewayProtocol", self.connection), keep_alive_s=0, write_timeout_s=WRITE_TIMEOUT_S, **options
        )
        self.stream = Stream()
        self.ended: list[Relay] = []

    async def begin(self, said: bytes) -> None:
        first = self.relay.expect(Unmarked())
        self.relay.attach(self.stream)
        self.relay.on_payload(said)
        await first
        self.relay.start(HEAD)
        self.relay.then(self.ended.append)


@scenario
async def test_the_last_event_is_the_end_once_the_upstream_has_ended() -> None:
    scene = Scene()
    await scene.begin(b"abz")
    assert scene.connection.steps == ["begin", "write"]
    scene.relay.on_end()
    assert (scene.connection.written, scene.connection.steps[-1]) == (b"abz", "finish")
    assert [relay.ending for relay in scene.ended] == [Ending.COMPLETE]


@scenario
async def test_an_upstream_that_goes_on_after_the_last_event_is_given_up() -> None:
    scene = Scene()
    await scene.begin(b"a")
    scene.relay.on_payload(b"z")
    began = now()
    await scene.relay.wait()
    assert round(now() - began, 6) == DRAIN_S
    assert scene.stream.log == ["abort"]
    assert scene.relay.ending is Ending.COMPLETE


@scenario
async def test_a_connection_that_breaks_after_the_last_event_breaks_nothing() -> None:
    scene = Scene()
    await scene.begin(b"az")
    scene.relay.on_failure(UpstreamError("no"))
    assert (scene.connection.written, scene.relay.ending, scene.relay.error) == (b"az", Ending.COMPLETE, None)


@scenario
async def test_a_caller_who_leaves_after_the_last_event_has_had_the_answer() -> None:
    scene = Scene()
    await scene.begin(b"az")
    scene.connection.listener.on_gone()
    assert scene.relay.ending is Ending.COMPLETE


@scenario
async def test_without_its_last_event_an_answer_is_not_complete() -> None:
    scene = Scene(event_of=event_of)
    await scene.begin(b"ab")
    scene.relay.on_end()
    assert scene.relay.ending is Ending.FAILED
    assert scene.connection.written.startswith(b'abdata:{"error":"Incomplete generation: ')


@scenario
async def test_an_error_is_told_in_the_words_that_are_given() -> None:
    for words in (GatewayError.event, event_of):
        scene = Scene(event_of=words)
        await scene.begin(b"a")
        error = UpstreamError("No.")
        scene.relay.on_failure(error)
        assert scene.connection.written == b"a" + words(error)
        assert (scene.relay.ending, scene.relay.error) == (Ending.FAILED, error)
