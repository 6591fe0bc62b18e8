"""The event-stream decoder against botocore's, and against frames that are cut, damaged or unheard of."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from gateway.sagemaker import eventstream
from gateway.sagemaker.eventstream import EventStreamDecoder, FramingError, StreamFailure

Header = tuple[str, int, bytes]
"""Name, type, encoded value."""


def string(name: str, value: str) -> Header:
    data = value.encode()
    return name, 7, struct.pack(">H", len(data)) + data


def block(*headers: Header) -> bytes:
    return b"".join(
        struct.pack(">B", len(name.encode())) + name.encode() + bytes([kind]) + value for name, kind, value in headers
    )


def frame(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return head + struct.pack(">I", crc32(head))


PART = block(
    string(":event-type", "PayloadPart"),
    string(":content-type", "application/octet-stream"),
    string(":message-type", "event"),
)


def part(payload: bytes) -> bytes:
    return frame(PART, payload)


def exception(name: str, payload: bytes) -> bytes:
    headers = (string(":exception-type", name), string(":content-type", "application/json"))
    return frame(block(*headers, string(":message-type", "exception")), payload)


def error(*headers: Header) -> bytes:
    return frame(block(*headers, string(":message-type", "error")), b"")


@pytest.fixture(autouse=True)
def known_blocks() -> Iterator[dict[bytes, bool]]:
    """Every test starts with nothing remembered, and leaves nothing behind."""
    known = EventStreamDecoder._carries_payload
    known.clear()
    yield known
    known.clear()


def feed_all(pieces: Sequence[bytes]) -> tuple[list[bytes], EventStreamDecoder]:
    decoder = EventStreamDecoder()
    return [payload for piece in pieces for payload in decoder.feed(piece)], decoder


# --- every way to cut a stream -------------------------------------------------------------------------------------

STREAMS = [
    pytest.param([], [], id="nothing"),
    pytest.param([part(b"a")], [b"a"], id="one byte"),
    pytest.param([part(b"one"), part(b"two"), part(b"3")], [b"one", b"two", b"3"], id="three parts"),
    pytest.param([part(b""), part(b"x"), part(b"")], [b"x"], id="empty parts are left out"),
    pytest.param([part(b"")], [], id="an empty part alone"),
    pytest.param(
        [part("h\u00e9\U0001f600".encode())], ["h\u00e9\U0001f600".encode()], id="characters of several bytes"
    ),
    pytest.param([part(part(b"inner"))], [part(b"inner")], id="a frame as payload"),
    pytest.param([part(bytes(300))], [bytes(300)], id="zeros"),
    pytest.param(
        [
            part(b"a"),
            frame(block(string(":message-type", "event"), string(":event-type", "Metrics")), b"{}"),
            part(b"b"),
        ],
        [b"a", b"b"],
        id="an event type nobody knows",
    ),
    pytest.param([frame(block(string(":message-type", "event")), b"{}")], [], id="an event without a type"),
    pytest.param(
        [
            frame(
                PART
                + block(
                    ("true", 0, b""),
                    ("false", 1, b""),
                    ("byte", 2, b"\x7f"),
                    ("short", 3, b"\1\2"),
                    ("int", 4, b"\1\2\3\4"),
                    ("long", 5, b"\1\2\3\4\5\6\7\x08"),
                    ("bytes", 6, b"\0\2\xff\xfe"),
                    ("empty", 7, b"\0\0"),
                    ("time", 8, bytes(8)),
                    ("uuid", 9, bytes(16)),
                    ("n\u00e4me", 7, b"\0\1v"),
                ),
                b"x",
            )
        ],
        [b"x"],
        id="a header of every type",
    ),
]


@pytest.mark.parametrize(("frames", "payloads"), STREAMS)
def test_a_stream_comes_out_the_same_however_it_is_cut(frames: list[bytes], payloads: list[bytes]) -> None:
    stream = b"".join(frames)
    cuts = [[stream], frames, [stream[i : i + 1] for i in range(len(stream))]]
    cuts += [[stream[:at], stream[at:]] for at in range(len(stream) + 1)]
    for pieces in cuts:
        found, decoder = feed_all(pieces)
        assert found == payloads
        assert decoder.between_messages
        assert decoder.failure is None


def test_what_one_read_completes_comes_out_at_once_and_nothing_before() -> None:
    stream = part(b"one") + part(b"two")
    decoder, length = EventStreamDecoder(), len(part(b"one"))
    assert decoder.between_messages
    assert decoder.feed(stream[: length - 1]) == []
    assert not decoder.between_messages
    assert decoder.feed(stream[length - 1 : length + 5]) == [b"one"]
    assert not decoder.between_messages
    assert decoder.feed(stream[length + 5 :]) == [b"two"]
    assert decoder.between_messages


def test_every_truncation_of_a_frame_leaves_it_unfinished_and_yields_nothing() -> None:
    whole = part(b"payload")
    for at in range(1, len(whole)):
        found, decoder = feed_all([part(b"before"), whole[:at]])
        assert found == [b"before"], at
        assert not decoder.between_messages, at
        assert decoder.failure is None


# --- against botocore ----------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=12)
FIXED_BYTES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
OTHERS = st.one_of(
    *(st.tuples(NAMES, st.just(kind), st.binary(min_size=size, max_size=size)) for kind, size in FIXED_BYTES.items()),
    st.tuples(NAMES, st.just(6), st.binary(max_size=20).map(lambda data: struct.pack(">H", len(data)) + data)),
    st.tuples(NAMES, st.just(7), st.text(max_size=8).map(lambda text: string("", text)[2])),
)
FRAMES = st.builds(
    lambda others, payload: frame(PART + block(*{name: (name, kind, v) for name, kind, v in others}.values()), payload),
    st.lists(OTHERS, max_size=4),
    st.binary(max_size=40),
)


def botocore_payloads(stream: bytes) -> list[bytes]:
    buffer = EventStreamBuffer()
    buffer.add_data(stream)
    return [event.payload for event in buffer if event.payload]


@given(frames=st.lists(FRAMES, max_size=6), cuts=st.lists(st.integers(0, 2_000), max_size=8))
def test_it_finds_the_payloads_botocore_finds(frames: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frames)
    ends = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    found, decoder = feed_all([stream[start:end] for start, end in pairwise(ends)])
    assert found == botocore_payloads(stream)
    assert decoder.between_messages


@given(frames=st.lists(FRAMES, min_size=1, max_size=3), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_flipped_bit_anywhere_passes(frames: list[bytes], at: int, bit: int) -> None:
    stream = bytearray(b"".join(frames))
    stream[at % len(stream)] ^= 1 << bit
    with pytest.raises(FramingError):
        EventStreamDecoder().feed(bytes(stream))


@given(noise=st.binary(max_size=200), cut=st.integers(0, 200))
def test_noise_raises_framing_errors_and_nothing_else(noise: bytes, cut: int) -> None:
    try:
        found, _ = feed_all([noise[:cut], noise[cut:]])
    except FramingError:
        return
    assert found == []


@given(headers=st.binary(max_size=60), payload=st.binary(max_size=20))
def test_noise_as_headers_raises_framing_errors_and_nothing_else(headers: bytes, payload: bytes) -> None:
    decoder = EventStreamDecoder()
    try:
        found = decoder.feed(frame(headers, payload))
    except FramingError:
        return
    assert found in ([], [payload])
    assert found == [] or b"PayloadPart" in headers


# --- damaged frames ------------------------------------------------------------------------------------------------


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def declaring(total: int, headers: int) -> bytes:
    """Return a prelude whose checksum is right for whatever it says."""
    lengths = struct.pack(">II", total, headers)
    return lengths + struct.pack(">I", crc32(lengths))


def with_length(data: bytes, headers: int) -> bytes:
    """Return the frame with another length of headers, both checksums right."""
    head = declaring(len(data), headers) + data[12:-4]
    return head + struct.pack(">I", crc32(head))


GOOD = part(b"payload")
TWICE = block(string(":message-type", "event"), string(":event-type", "Metrics"), string(":event-type", "PayloadPart"))


@pytest.mark.parametrize(("bad", "reason"), [
    pytest.param(flipped(GOOD, 0), "prelude checksum mismatch", id="total length"),
    pytest.param(flipped(GOOD, 7), "prelude checksum mismatch", id="headers length"),
    pytest.param(flipped(GOOD, 11), "prelude checksum mismatch", id="prelude checksum"),
    pytest.param(flipped(GOOD, 12), "message checksum mismatch", id="headers"),
    pytest.param(flipped(GOOD, len(GOOD) - 5), "message checksum mismatch", id="payload"),
    pytest.param(flipped(GOOD, len(GOOD) - 1), "message checksum mismatch", id="message checksum"),
    pytest.param(declaring(2**31 - 1, 0), "message length out of bounds", id="2 GiB"),
    pytest.param(declaring(2**32 - 1, 2**32 - 1), "message length out of bounds", id="4 GiB"),
    pytest.param(declaring(24 * 2**20 + 2**17 + 17, 0), "message length out of bounds", id="a byte over the limit"),
    pytest.param(declaring(2**20, 128 * 2**10 + 1), "message length out of bounds", id="headers over their limit"),
    pytest.param(declaring(0, 0), "message length out of bounds", id="length 0"),
    pytest.param(declaring(15, 0), "message length out of bounds", id="shorter than a frame can be"),
    pytest.param(with_length(GOOD, len(GOOD) + 1), "message length out of bounds", id="headers longer than the frame"),
    pytest.param(with_length(GOOD, len(GOOD) - 15), "message length out of bounds", id="headers reach the checksum"),
    pytest.param(with_length(GOOD, len(PART) + 3), "headers do not parse", id="headers reach into the payload"),
    pytest.param(with_length(GOOD, len(PART) - 1), "headers do not parse", id="headers end inside a value"),
    pytest.param(frame(b"", b"payload"), "no message type", id="no headers"),
    pytest.param(frame(PART + b"\1x\x2a", b""), "headers do not parse", id="a header type of 42"),
    pytest.param(frame(PART + b"\1x\x0a", b""), "headers do not parse", id="the first type that does not exist"),
    pytest.param(frame(PART + b"\1", b""), "headers do not parse", id="a name cut short"),
    pytest.param(frame(PART + b"\1x", b""), "headers do not parse", id="no type"),
    pytest.param(frame(PART + b"\1x\7\0", b""), "headers do not parse", id="half a length"),
    pytest.param(frame(PART + b"\1x\7\0\5four", b""), "headers do not parse", id="a value cut short"),
    pytest.param(frame(PART + b"\1\xff\7\0\0", b""), "headers do not parse", id="a name that is no UTF-8"),
    pytest.param(frame(PART + b"\1x\7\0\1\xff", b""), "headers do not parse", id="a string that is no UTF-8"),
    pytest.param(frame(TWICE, b"x"), "a header occurs twice", id="a header twice"),
    pytest.param(frame(block((":message-type", 6, b"\0\5event")), b"x"), "no message type", id="a type in bytes"),
    pytest.param(
        frame(block(string(":message-type", "y" * 500)), b"x"), f"unknown message type {'y' * 64!r}", id="another type"
    ),
])  # fmt: skip
def test_a_damaged_frame_is_refused_and_the_good_ones_before_it_are_kept(bad: bytes, reason: str) -> None:
    for pieces in ([part(b"a") + part(b"b") + bad], [part(b"a"), part(b"b") + bad[:9], bad[9:]]):
        decoder = EventStreamDecoder()
        before = [payload for piece in pieces[:-1] for payload in decoder.feed(piece)]
        with pytest.raises(FramingError) as caught:
            decoder.feed(pieces[-1])
        assert caught.value.args[0] == reason
        assert before + caught.value.args[1] == [b"a", b"b"]


def test_a_huge_length_is_refused_at_its_prelude_without_room_for_it() -> None:
    decoder = EventStreamDecoder()
    tracemalloc.start()
    try:
        with pytest.raises(FramingError):
            decoder.feed(declaring(2**31 - 1, 0))
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


def test_the_largest_allowed_length_makes_no_room_before_its_bytes_come() -> None:
    decoder = EventStreamDecoder()
    tracemalloc.start()
    try:
        assert decoder.feed(declaring(eventstream.MAX_MESSAGE_BYTES, 0)) == []
        assert decoder.feed(bytes(1024)) == []
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


# --- failures SageMaker reports ------------------------------------------------------------------------------------

TIMED_OUT = {"Message": "too slow", "ErrorCode": "ModelInvocationTimeExceeded"}


@pytest.mark.parametrize(("last", "failure"), [
    pytest.param(
        exception("ModelStreamError", json.dumps(TIMED_OUT).encode()),
        StreamFailure("ModelStreamError", "ModelInvocationTimeExceeded", "too slow"),
        id="with a code",
    ),
    pytest.param(
        exception("InternalStreamFailure", b'{"Message":"broken"}'),
        StreamFailure("InternalStreamFailure", None, "broken"),
        id="without a code",
    ),
    pytest.param(
        exception("X", b'{"message":"small"}'), StreamFailure("X", None, "small"), id="the message in lower case"
    ),
    pytest.param(exception("X", b""), StreamFailure("X", None, ""), id="no payload"),
    pytest.param(exception("X", b"\xff{"), StreamFailure("X", None, ""), id="a payload that is no JSON"),
    pytest.param(exception("X", b"[1]"), StreamFailure("X", None, ""), id="a payload that is no object"),
    pytest.param(
        exception("X", b'{"Message":7,"ErrorCode":[]}'), StreamFailure("X", None, ""), id="members of other types"
    ),
    pytest.param(exception("X", b"[" * 100_000), StreamFailure("X", None, ""), id="nested without end"),
    pytest.param(
        frame(block(string(":message-type", "exception")), b"{}"), StreamFailure("unknown", None, ""), id="no name"
    ),
    pytest.param(
        error(string(":error-code", "InternalError"), string(":error-message", "An error")),
        StreamFailure("InternalError", None, "An error"),
        id="an error frame",
    ),
    pytest.param(error(), StreamFailure("unknown", None, ""), id="an error frame that says nothing"),
])  # fmt: skip
def test_a_reported_failure_ends_the_payload(last: bytes, failure: StreamFailure) -> None:
    stream = part(b"a") + last + part(b"never")
    for pieces in ([stream], [stream[i : i + 7] for i in range(0, len(stream), 7)]):
        found, decoder = feed_all(pieces)
        assert found == [b"a"]
        assert decoder.failure == failure


def test_checksums_still_count_after_a_reported_failure() -> None:
    decoder = EventStreamDecoder()
    decoder.feed(exception("X", b"{}"))
    with pytest.raises(FramingError):
        decoder.feed(flipped(part(b"a"), 20))


def test_the_first_reported_failure_stands() -> None:
    _, decoder = feed_all([exception("First", b"{}") + exception("Second", b"{}")])
    assert decoder.failure == StreamFailure("First", None, "")


# --- what is remembered between streams ----------------------------------------------------------------------------


def odd(number: int) -> tuple[bytes, bool]:
    """Return one of endlessly many good header blocks, and whether its frames carry payload."""
    carries = number % 3 > 0
    kind = "PayloadPart" if carries else "Metrics"
    return block(string("n", str(number)), string(":message-type", "event"), string(":event-type", kind)), carries


def test_a_variety_of_headers_is_told_apart_and_takes_bounded_room(known_blocks: dict[bytes, bool]) -> None:
    for number in range(1_000):
        headers, carries = odd(number)
        for _ in range(2):
            found, _ = feed_all([frame(headers, b"x"), part(b"usual"), frame(b"\1a\0" + PART, b"y")])
            assert found == [b"x", b"usual", b"y"][0 if carries else 1 :]
            assert len(known_blocks) <= eventstream.MAX_KNOWN_BLOCKS


def test_the_usual_headers_are_remembered_even_after_a_variety(known_blocks: dict[bytes, bool]) -> None:
    feed_all([frame(odd(number)[0], b"x") for number in range(eventstream.MAX_KNOWN_BLOCKS)])
    feed_all([part(b"usual")])
    assert known_blocks[PART] is True


@pytest.mark.parametrize("headers", [
    pytest.param(PART + block(string("long", "x" * eventstream.MAX_KNOWN_BLOCK_BYTES)), id="long"),
    pytest.param(block(string(":message-type", "exception"), string(":exception-type", "X")), id="a failure"),
    pytest.param(block(string(":message-type", "error")), id="an error"),
])  # fmt: skip
def test_such_headers_are_not_remembered(headers: bytes, known_blocks: dict[bytes, bool]) -> None:
    feed_all([frame(headers, b"{}")])
    assert known_blocks == {}


@given(pairs=st.lists(st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=5)), max_size=40))
def test_what_is_remembered_never_changes_an_answer(pairs: list[tuple[int, bytes]]) -> None:
    stream = b"".join(frame(odd(number)[0], payload) for number, payload in pairs)
    expected = [payload for number, payload in pairs if odd(number)[1]]
    assert feed_all([stream])[0] == expected
    assert feed_all([stream])[0] == expected


# --- size ----------------------------------------------------------------------------------------------------------


def test_ten_thousand_frames_in_one_read() -> None:
    payloads = [b"%d" % number for number in range(10_000)]
    stream = b"".join(map(part, payloads))
    began = time.process_time()
    assert feed_all([stream])[0] == payloads
    assert time.process_time() - began < 0.5


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of the fastest of three runs."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def test_a_large_frame_in_small_pieces_takes_linear_time() -> None:
    def decode(megabytes: int) -> Callable[[], object]:
        whole = part(bytes(megabytes * 2**20))
        pieces = [whole[i : i + 1024] for i in range(0, len(whole), 1024)]
        return lambda: feed_all(pieces)

    small, large = seconds(decode(5)), seconds(decode(20))
    assert large < 1.0  # quadratic work would copy 200 GB
    assert large < 8 * small + 0.05
    found, _ = feed_all([part(bytes(20 * 2**20))])
    assert len(found[0]) == 20 * 2**20
