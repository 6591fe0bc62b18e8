"""Cuts never lose, add or reorder a byte, and fall where the mode says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.cutting import parse_chunking, parse_cut

CHUNKS = [b"abc", b"", b"defgh", b"i"]


def cut(mode: str, chunks: list[bytes]) -> list[bytes]:
    cutter = parse_cut(mode)()
    parts = [part for chunk in chunks for part in cutter.feed(chunk)]
    return parts + cutter.flush()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        pytest.param("as-written", [b"abc", b"defgh", b"i"], id="as written, without empty chunks"),
        pytest.param("bytes", [bytes([byte]) for byte in b"abcdefghi"], id="byte by byte"),
        pytest.param("sizes:4", [b"abcd", b"efgh", b"i"], id="one size"),
        pytest.param("sizes:1,3", [b"a", b"bcd", b"e", b"fgh", b"i"], id="sizes in turn"),
        pytest.param("sizes:100", [b"abcdefghi"], id="larger than the body"),
        pytest.param("merge", [b"abcdefghi"], id="merged"),
        pytest.param("merge:2", [b"abc", b"defghi"], id="merged in twos"),
    ],
)
def test_cuts(mode: str, expected: list[bytes]) -> None:
    assert cut(mode, CHUNKS) == expected


@given(
    st.lists(st.binary(max_size=40), max_size=12),
    st.sampled_from(["as-written", "bytes", "sizes:3,1,7", "random:1", "random:2:3", "merge", "merge:3"]),
)
def test_no_byte_is_lost(chunks: list[bytes], mode: str) -> None:
    parts = cut(mode, chunks)
    assert b"".join(parts) == b"".join(chunks)
    assert all(parts)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_random_cuts_do_not_depend_on_the_containers_chunks(body: bytes, at: int) -> None:
    assert cut("random:5:9", [body]) == cut("random:5:9", [body[:at], body[at:]])


def test_random_cuts_depend_on_the_seed_and_keep_their_bound() -> None:
    body = bytes(range(256))
    assert cut("random:1:5", [body]) != cut("random:2:5", [body])
    assert max(map(len, cut("random:1:5", [body]))) == 5


@pytest.mark.parametrize(
    "mode",
    [
        "",
        "byte",
        "as-written:1",
        "bytes:2",
        "sizes",
        "sizes:",
        "sizes:0",
        "sizes:1,",
        "random",
        "random:x",
        "random:1:0",
        "merge:0",
        "merge:-1",
    ],
)
def test_unknown_cuts(mode: str) -> None:
    with pytest.raises(ValueError, match=r"unknown cut .*: use one of as-written, bytes, sizes:N"):
        parse_cut(mode)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("frame", (None, 1)), ("split:5", (5, 1)), ("join:3", (None, 3))],
)
def test_chunkings(mode: str, expected: tuple[int | None, int]) -> None:
    assert parse_chunking(mode) == expected


@pytest.mark.parametrize("mode", ["", "frames", "frame:1", "split", "split:0", "join:x"])
def test_unknown_chunkings(mode: str) -> None:
    with pytest.raises(ValueError, match=r"unknown chunking .*: use one of frame, split:BYTES"):
        parse_chunking(mode)
