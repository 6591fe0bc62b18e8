"""Which heads are refused, which lose their wish to speak another protocol, and how long they are."""

from __future__ import annotations

import pytest

from gateway.http.heads import BadHead, Headers, check_head, head_bytes, without_upgrade

HOST = (b"host", b"a")
CHUNKED = (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        pytest.param("1.1", [HOST], id="nothing but a host"),
        pytest.param("1.1", [(b"host", b"")], id="an empty host"),
        pytest.param("1.1", [HOST, CHUNKED], id="chunked"),
        pytest.param("1.1", [HOST, (b"transfer-encoding", b"CHUNKED")], id="chunked in capitals"),
        pytest.param("1.0", [], id="no host in 1.0"),
        pytest.param("1.0", [HOST], id="a host in 1.0"),
    ],
)
def test_a_plain_head_passes(version: str, headers: Headers) -> None:
    check_head(version, headers)


@pytest.mark.parametrize(
    ("version", "headers", "reason"),
    [
        pytest.param("1.1", [], "host", id="no host"),
        pytest.param("1.1", [HOST, HOST], "host", id="two hosts"),
        pytest.param("1.0", [HOST, HOST], "host", id="two hosts in 1.0"),
        pytest.param("1.0", [CHUNKED], "transfer-encoding", id="chunked in 1.0"),
        pytest.param("1.1", [HOST, (b"transfer-encoding", b"gzip, chunked")], "transfer-encoding", id="two codings"),
        pytest.param("1.1", [HOST, (b"transfer-encoding", b"")], "transfer-encoding", id="no coding"),
        pytest.param("1.1", [HOST, CHUNKED, (b"transfer-encoding", b"x")], "transfer-encoding", id="twice"),
        pytest.param("0.9", [], "version", id="0.9"),
        pytest.param("2.0", [HOST], "version", id="2.0"),
    ],
)
def test_a_head_that_could_be_read_differently_is_refused(version: str, headers: Headers, reason: str) -> None:
    with pytest.raises(BadHead, match=f"^{reason}$"):
        check_head(version, headers)


@pytest.mark.parametrize(
    ("connection", "kept"),
    [
        pytest.param(b"upgrade", b"connection: \r\n", id="alone"),
        pytest.param(b"Upgrade, HTTP2-Settings", b"connection: \r\n", id="h2c"),
        pytest.param(b"close, Upgrade", b"connection: close\r\n", id="close"),
        pytest.param(b"keep-alive,upgrade,x", b"connection: keep-alive, x\r\n", id="between others"),
    ],
)
def test_a_head_without_its_upgrade_is_the_same_otherwise(connection: bytes, kept: bytes) -> None:
    headers = [HOST, (b"connection", connection), (b"upgrade", b"h2c"), (b"http2-settings", b"AA"), (b"x-a", b"\xff b")]
    assert without_upgrade(b"POST", b"/v1?a=b", "1.1", headers) == (
        b"POST /v1?a=b HTTP/1.1\r\nhost: a\r\n" + kept + b"x-a: \xff b\r\n\r\n"
    )


def test_a_head_is_as_long_as_on_the_wire_but_for_the_method() -> None:
    head = b"POST /v1?a=b HTTP/1.1\r\nhost: a\r\nx-a: bc\r\n"
    assert head_bytes(b"/v1?a=b", [HOST, (b"x-a", b"bc")]) == len(head) - len("POST ")
