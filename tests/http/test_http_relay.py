"""One streamed answer, without sockets: what is written when, who is stopped, who is hung up on, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, cast

import pytest

from adapters.base import Usage
from adapters.errors import ContainerFault, FaultKind
from adapters.openai.relay import DONE
from gateway.errors import GatewayError, UpstreamError, UpstreamProtocol, UpstreamTimeout
from gateway.http.protocol import GatewayProtocol
from gateway.http.relay import COMMENT, DRAIN_S, Ending, Relay
from gateway.sagemaker.errors import ContainerError
from tests.sagemaker.virtual import now, run

HEAD = b"head"
KEEP_ALIVE_S = 15.0
WRITE_TIMEOUT_S = 30.0


class Connection:
    """Stands for the caller's connection: writes down what happens to it, and when."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.listener: Any = None
        self.log: list[tuple[float, str, bytes]] = []

    def listen(self, listener: object) -> None:
        self.listener = listener

    def begin(self, head: bytes) -> None:
        self._note("begin", head)

    def write(self, data: bytes) -> None:
        self._note("write", data)

    def interim(self) -> None:
        self._note("interim")

    def finish(self) -> None:
        self._note("finish")

    def cut(self) -> None:
        self._note("cut")

    def _note(self, what: str, data: bytes = b"") -> None:
        self.log.append((round(now(), 6), what, data))

    @property
    def written(self) -> bytes:
        return b"".join(data for _, what, data in self.log if what == "write")

    @property
    def steps(self) -> list[str]:
        return [what for _, what, _ in self.log]


class Stream:
    """Stands for the upstream."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def pause(self) -> None:
        self.log.append("pause")

    def resume(self) -> None:
        self.log.append("resume")

    def abort(self) -> None:
        self.log.append("abort")


class Decoder:
    """Takes each byte for an event; `!` for the end, `x` for a fault and `?` for what it cannot read."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.chunks = 0
        self.complete = False
        self.fault: ContainerFault | None = None
        self.malformed: str | None = None
        self.dropped = 0
        self.ended = False

    def feed(self, data: bytes) -> list[bytes]:
        events = []
        for byte in data.decode():
            if byte == "x":
                self.fault = ContainerFault(FaultKind.FAILED, "words")
            elif byte == "?":
                self.malformed = "no idea"
            elif byte == "!":
                self.complete = self.ended = True
                events.append(DONE)
            else:
                self.complete = byte == "z"
                events.append(byte.encode())
        return events

    def end(self) -> list[bytes]:
        if self.complete:
            self.ended = True
            return [DONE]
        self.malformed = "no end"
        return []


class Scene:
    """A relay between the two."""

    def __init__(self, *, keep_alive_s: float = 0.0) -> None:
        self.connection = Connection()
        self.relay = Relay(
            cast("GatewayProtocol", self.connection), keep_alive_s=keep_alive_s, write_timeout_s=WRITE_TIMEOUT_S
        )
        self.stream = Stream()
        self.ended: list[Relay] = []

    def attempt(self) -> asyncio.Future[None]:
        first = self.relay.expect(Decoder())
        self.stream = Stream()
        self.relay.attach(self.stream)
        return first

    def begun(self) -> None:
        """Go on as after the first event: the status is out, and no task is left."""
        self.relay.start(HEAD)
        self.relay.then(self.ended.append)


async def begun(said: bytes = b"a", **options: float) -> Scene:
    """Return a scene in which `said` has been relayed."""
    scene = Scene(**options)
    first = scene.attempt()
    scene.relay.on_payload(said)
    await first
    scene.begun()
    return scene


def scenario(main: Callable[[], Any]) -> Callable[[], None]:
    """Run a test on a loop whose clock jumps."""

    def test() -> None:
        run(main())

    test.__name__, test.__doc__ = main.__name__, main.__doc__
    return test


# Before the first event


@scenario
async def test_what_comes_before_the_status_is_held_and_leaves_in_one_piece() -> None:
    scene = Scene()
    first = scene.attempt()
    scene.relay.on_payload(b"a")
    scene.relay.on_payload(b"bc")
    assert scene.connection.log == []
    await first
    scene.begun()
    assert [(what, data) for _, what, data in scene.connection.log] == [("begin", HEAD), ("write", b"abc")]


@scenario
async def test_a_failure_before_the_first_event_is_the_walks_concern() -> None:
    scene = Scene()
    for failure in (UpstreamError("no"), ContainerError(500, b"no")):
        first = scene.attempt()
        scene.relay.on_failure(failure)
        with pytest.raises(type(failure)):
            await first
        scene.relay.detach()
    first = scene.attempt()
    scene.relay.on_payload(b"a")
    await first
    scene.begun()
    assert scene.connection.written == b"a"


@scenario
async def test_a_fault_of_the_container_before_the_first_event_hangs_up_and_is_raised() -> None:
    scene = Scene()
    first = scene.attempt()
    scene.relay.on_payload(b"x")
    with pytest.raises(UpstreamError):
        await first
    assert scene.stream.log == ["abort"]
    assert scene.connection.log == []


@scenario
async def test_what_a_given_up_attempt_still_says_is_not_heard() -> None:
    scene = Scene()
    scene.attempt()
    scene.relay.detach()
    scene.relay.on_payload(b"a")
    scene.relay.on_end()
    scene.relay.on_failure(UpstreamError("no"))
    first = scene.attempt()
    assert not first.done()
    scene.relay.on_payload(b"b")
    await first
    scene.begun()
    assert scene.connection.written == b"b"


@scenario
async def test_an_upstream_that_failed_while_it_was_being_called_is_not_attached() -> None:
    scene = Scene()
    first = scene.relay.expect(Decoder())
    scene.relay.on_failure(UpstreamError("no"))
    scene.relay.attach(scene.stream)
    with pytest.raises(UpstreamError):
        await first
    scene.relay.detach()
    assert scene.stream.log == []


@scenario
async def test_a_failure_between_first_event_and_status_is_an_error_event() -> None:
    scene = Scene()
    first = scene.attempt()
    scene.relay.on_payload(b"a")
    scene.relay.on_failure(UpstreamTimeout("late"))
    await first
    scene.begun()
    assert scene.connection.written == b"a" + UpstreamTimeout("late").event()
    assert (scene.connection.steps[-1], scene.relay.ending) == ("finish", Ending.FAILED)
    assert scene.ended == [scene.relay]


@scenario
async def test_an_answer_that_is_complete_before_its_status_is_sent_whole() -> None:
    scene = Scene()
    first = scene.attempt()
    scene.relay.on_payload(b"ab!")
    scene.relay.on_end()
    await first
    scene.begun()
    assert scene.connection.written == b"ab" + DONE
    assert (scene.connection.steps, scene.relay.ending) == (["begin", "write", "finish"], Ending.COMPLETE)


@scenario
async def test_a_caller_who_leaves_before_the_first_event_ends_the_task_and_the_upstream() -> None:
    scenes = []

    async def walk() -> None:
        scene = Scene()
        scenes.append(scene)
        await scene.attempt()

    task = asyncio.create_task(walk())
    await asyncio.sleep(0)
    (scene,) = scenes
    scene.relay.on_gone()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scene.stream.log == ["abort"]
    assert (scene.connection.log, scene.relay.ending) == ([], Ending.CANCELLED)


# After it


@scenario
async def test_events_leave_as_they_come_and_those_of_one_read_together() -> None:
    scene = await begun()
    for said in (b"b", b"cd", b"e"):
        scene.relay.on_payload(said)
    assert [data for _, what, data in scene.connection.log if what == "write"] == [b"a", b"b", b"cd", b"e"]


@scenario
async def test_the_end_of_the_upstream_ends_a_complete_answer() -> None:
    scene = await begun()
    scene.relay.on_payload(b"b!")
    assert "finish" not in scene.connection.steps
    scene.relay.on_end()
    assert scene.connection.written == b"ab" + DONE
    assert (scene.connection.steps[-1], scene.relay.ending) == ("finish", Ending.COMPLETE)
    assert (scene.ended, scene.stream.log) == ([scene.relay], [])


@scenario
async def test_an_answer_without_its_end_mark_is_ended_for_it() -> None:
    scene = await begun()
    scene.relay.on_payload(b"z")
    scene.relay.on_end()
    assert scene.connection.written == b"az" + DONE
    assert scene.relay.ending is Ending.COMPLETE


@scenario
async def test_an_answer_that_just_stops_is_a_failure() -> None:
    scene = await begun()
    scene.relay.on_end()
    assert scene.connection.written.startswith(b'adata: {"error":')
    assert DONE not in scene.connection.written
    assert (scene.connection.steps[-1], scene.relay.ending) == ("finish", Ending.FAILED)
    assert scene.relay.error is not None
    assert scene.relay.error.code == "upstream_protocol"


FAILURES: list[tuple[str, Callable[[Relay], None], str]] = [
    ("the connection", lambda relay: relay.on_failure(UpstreamError("no")), "upstream_error"),
    ("the time", lambda relay: relay.on_failure(UpstreamTimeout("no")), "upstream_timeout"),
    ("an answer of the container", lambda relay: relay.on_failure(ContainerError(500, b"secret")), "upstream_error"),
    ("a fault in the stream", lambda relay: relay.on_payload(b"x"), "upstream_error"),
    ("bytes nobody reads", lambda relay: relay.on_payload(b"?"), "upstream_protocol"),
    ("the gateway's stop", Relay.shut_down, "server_shutdown"),
]


@pytest.mark.parametrize(("fail", "code"), [pytest.param(fail, code, id=name) for name, fail, code in FAILURES])
def test_a_failure_after_the_first_event_is_one_error_event_and_the_end(
    fail: Callable[[Relay], None], code: str
) -> None:
    async def main() -> None:
        scene = await begun()
        fail(scene.relay)
        fail(scene.relay)
        scene.relay.on_payload(b"more")
        error = scene.relay.error
        assert isinstance(error, GatewayError)
        assert error.code == code
        assert scene.connection.written == b"a" + error.event()
        assert scene.connection.steps == ["begin", "write", "write", "finish"]
        assert (scene.relay.ending, scene.ended) == (Ending.FAILED, [scene.relay])
        assert b"secret" not in scene.connection.written

    run(main())


@scenario
async def test_events_before_a_fault_in_the_same_read_are_delivered() -> None:
    scene = await begun()
    scene.relay.on_payload(b"bcxd")
    assert scene.connection.written.startswith(b"abcd" + b'data: {"error":')
    assert scene.stream.log == ["abort"]


@pytest.mark.parametrize("failure", [UpstreamError("no"), UpstreamTimeout("no"), ContainerError(500, b"no")])
def test_no_failure_after_the_end_mark_is_one(failure: GatewayError | ContainerError) -> None:
    async def main() -> None:
        scene = await begun()
        scene.relay.on_payload(b"b!")
        scene.relay.on_failure(failure)
        assert scene.connection.written == b"ab" + DONE
        assert (scene.relay.ending, scene.relay.error) == (Ending.COMPLETE, None)

    run(main())


@pytest.mark.parametrize("failure", [UpstreamError("lost"), UpstreamProtocol("cut"), UpstreamTimeout("silent")])
def test_a_connection_lost_after_the_last_record_is_no_failure(failure: GatewayError) -> None:
    async def main() -> None:
        scene = await begun()
        scene.relay.on_payload(b"z")
        scene.relay.on_failure(failure)
        assert scene.connection.written == b"az" + DONE
        assert (scene.relay.ending, scene.relay.error) == (Ending.COMPLETE, None)

    run(main())


@scenario
async def test_an_upstream_that_does_not_end_after_the_end_mark_is_hung_up_on() -> None:
    scene = await begun()
    scene.relay.on_payload(b"b!")
    await scene.relay.wait()
    assert scene.connection.log[-1] == (DRAIN_S, "finish", b"")
    assert (scene.relay.ending, scene.stream.log) == (Ending.COMPLETE, ["abort"])


@scenario
async def test_a_caller_who_leaves_ends_the_upstream() -> None:
    scene = await begun()
    scene.relay.on_gone()
    scene.relay.on_gone()
    assert (scene.relay.ending, scene.stream.log, scene.ended) == (Ending.CANCELLED, ["abort"], [scene.relay])
    assert scene.connection.steps == ["begin", "write"]  # there is nobody to write to


@scenario
async def test_a_caller_who_leaves_after_the_end_mark_had_it_all() -> None:
    scene = await begun()
    scene.relay.on_payload(b"!")
    scene.relay.on_gone()
    assert (scene.relay.ending, scene.stream.log) == (Ending.COMPLETE, ["abort"])


# Back-pressure


@scenario
async def test_a_slow_reader_stops_the_upstream_until_it_reads_on() -> None:
    scene = await begun()
    scene.relay.on_pause()
    scene.relay.on_resume()
    scene.relay.on_pause()
    assert scene.stream.log == ["pause", "resume", "pause"]


@scenario
async def test_an_attempt_that_begins_while_the_caller_does_not_read_is_stopped_at_once() -> None:
    scene = Scene()
    scene.relay.expect(Decoder())
    scene.relay.on_pause()
    scene.relay.attach(scene.stream)
    assert scene.stream.log == ["pause"]


@scenario
async def test_a_reader_who_takes_nothing_is_cut() -> None:
    scene = await begun(keep_alive_s=KEEP_ALIVE_S)
    scene.relay.on_pause()
    await scene.relay.wait()
    assert scene.connection.log[-1] == (WRITE_TIMEOUT_S, "cut", b"")
    assert scene.connection.steps == ["begin", "write", "cut"]  # no comments for who does not read
    assert (scene.relay.ending, scene.stream.log) == (Ending.SLOW_READER, ["pause", "abort"])


@scenario
async def test_a_reader_who_reads_on_in_time_is_not_cut() -> None:
    scene = await begun()
    for _ in range(5):
        scene.relay.on_pause()
        await asyncio.sleep(WRITE_TIMEOUT_S - 1)
        scene.relay.on_resume()
    scene.relay.on_payload(b"b!")
    scene.relay.on_end()
    assert (scene.connection.written, scene.relay.ending) == (b"ab" + DONE, Ending.COMPLETE)


# Silence


@scenario
async def test_silence_is_filled_with_comments() -> None:
    scene = await begun(keep_alive_s=KEEP_ALIVE_S)
    await asyncio.sleep(10)
    scene.relay.on_payload(b"b")
    await asyncio.sleep(31)
    scene.relay.on_payload(b"!")
    scene.relay.on_end()
    assert [(at, data) for at, what, data in scene.connection.log if what == "write"] == [
        (0, b"a"),
        (10, b"b"),
        (25, COMMENT),
        (40, COMMENT),
        (41, DONE),
    ]


@scenario
async def test_comments_begin_with_the_status_if_that_comes_first() -> None:
    scene = Scene(keep_alive_s=KEEP_ALIVE_S)
    scene.attempt()
    await asyncio.sleep(45)
    assert scene.connection.log == []
    scene.relay.start(HEAD)
    await asyncio.sleep(16)
    assert scene.connection.log == [(45, "begin", HEAD), (60, "write", COMMENT)]
    scene.relay.on_payload(b"a")
    assert scene.connection.written == COMMENT + b"a"


@scenario
async def test_no_timer_outlives_the_answer() -> None:
    scene = await begun(keep_alive_s=KEEP_ALIVE_S)
    scene.relay.on_payload(b"!")
    scene.relay.on_end()
    await asyncio.sleep(1_000)
    assert scene.connection.steps == ["begin", "write", "write", "finish"]


@scenario
async def test_a_probe_is_an_interim_answer_until_the_status_and_a_comment_afterwards() -> None:
    scene = Scene()
    first = scene.attempt()
    scene.relay.probe()
    scene.relay.on_payload(b"a")
    await first
    scene.begun()
    scene.relay.probe()
    assert [(what, data) for _, what, data in scene.connection.log] == [
        ("interim", b""),
        ("begin", HEAD),
        ("write", b"a"),
        ("write", COMMENT),
    ]


@scenario
async def test_a_stop_before_the_status_cancels_the_task() -> None:
    scenes = []

    async def walk() -> None:
        scene = Scene()
        scenes.append(scene)
        await scene.attempt()

    task = asyncio.create_task(walk())
    await asyncio.sleep(0)
    scenes[0].relay.shut_down()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scenes[0].connection.log == []


@scenario
async def test_comments_go_on_after_a_moment_of_back_pressure() -> None:
    scene = await begun(keep_alive_s=KEEP_ALIVE_S)
    scene.relay.on_pause()
    scene.relay.on_resume()
    await asyncio.sleep(KEEP_ALIVE_S + 1)
    assert scene.connection.log[-1] == (KEEP_ALIVE_S, "write", COMMENT)


@scenario
async def test_a_stop_after_the_status_ends_the_answer_and_every_further_attempt() -> None:
    scenes = []

    async def walk() -> None:
        scene = Scene()
        scenes.append(scene)
        first = scene.attempt()
        scene.relay.start(HEAD)
        with contextlib.suppress(UpstreamError):
            await first
        await scene.attempt()

    task = asyncio.create_task(walk())
    await asyncio.sleep(0)
    scene = scenes[0]
    scene.relay.on_failure(UpstreamError("no"))
    scene.relay.shut_down()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert b"server_shutdown" in scene.connection.written
    with pytest.raises(asyncio.CancelledError):
        scene.relay.expect(Decoder())
    late = Stream()
    scene.relay.attach(late)
    assert late.log == ["abort"]
