"""tests/conftest.py keeps the tests on this machine and out of the developer's own settings."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import boto3
import pytest

from tests.support import openai_schema


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        pytest.param("socket.connect", (None, ("192.0.2.1", 443)), id="connect by address"),
        pytest.param("socket.connect", (None, ("2001:db8::1", 443, 0, 0)), id="connect by IPv6 address"),
        pytest.param("socket.getaddrinfo", ("runtime.sagemaker.us-east-1.amazonaws.com", 443), id="look up a name"),
        pytest.param("socket.getaddrinfo", (b"example.com", 80), id="look up a name in bytes"),
        pytest.param("socket.sendto", (None, ("169.254.169.254", 80)), id="send a datagram"),
    ],
)
def test_nothing_leaves_this_machine(event: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(RuntimeError, match="tests contact this machine only"):
        sys.audit(event, *arguments)


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()
    assert socket.getaddrinfo("localhost", 80)


def test_a_developers_own_credentials_are_not_found() -> None:
    assert boto3.Session().get_credentials() is None
    assert boto3.Session().region_name is None
    found = {name for name in os.environ if name.startswith(("LMI_GATEWAY_", "OPENAI_"))}
    assert found <= {openai_schema.VARIABLE}  # names a file to the tests, and is nothing to the client


@pytest.mark.anyio
async def test_async_tests_run_on_asyncio() -> None:
    assert asyncio.get_running_loop().is_running()
