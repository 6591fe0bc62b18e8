"""URLs that name a model, and how a connection finds its way to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.http.named import NamedRoutes, Route
from gateway.http.protocol import connection_of
from tests.http.front import run, serving


def told(name: str) -> Route:
    """Return a route that answers with what it is and the model it was told."""

    async def route(scope: Any, receive: Any, model: str | None = None, /) -> None:
        connection_of(scope).answer(200, b"", f"{name} {model}".encode())

    return route


def folder() -> NamedRoutes:
    endings = {ending: told(ending) for ending in ("", "/generate", "/completions", "/chat/completions")}
    return NamedRoutes("/models/", endings, told("nothing"))


async def answer(target: str) -> str:
    async with serving(hot_folders={"/models/": folder()}) as front:
        received = await front.exchange(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    return received.partition(b"\r\n\r\n")[2].decode()


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        pytest.param("/models/m", " m", id="a model alone"),
        pytest.param("/models/m/", " m", id="slash after it"),
        pytest.param("/models/m?x=/generate", " m", id="a query is no path"),
        pytest.param("/models/m/generate", "/generate m", id="ending"),
        pytest.param("/models/m/generate/", "/generate m", id="ending, slash after it"),
        pytest.param("/models/a/b/c/generate", "/generate a/b/c", id="slashes"),
        pytest.param("/models/a%2Fb%3Ac/generate", "/generate a/b:c", id="percent-encoded"),
        pytest.param("/models/a%2Fgenerate", "/generate a", id="an ending is one however it is written"),
        pytest.param("/models/generate", " generate", id="a model that is called like an ending"),
        pytest.param("/models/generate/generate", "/generate generate", id="and its ending"),
        pytest.param("/models/m/chat/completions", "/chat/completions m", id="the longest ending"),
        pytest.param("/models/m/completions", "/completions m", id="the shorter one"),
        pytest.param("/models/m/nothing", " m/nothing", id="no ending is a part of the name"),
        pytest.param("/models/", "nothing None", id="no name"),
        pytest.param("/models//", "nothing None", id="nothing between slashes"),
        pytest.param("/models//generate", " /generate", id="no name before an ending"),
        pytest.param("/models", "/models", id="not in the folder"),
        pytest.param("/modelsx/m", "/modelsx/m", id="another folder"),
        pytest.param("/echo", "", id="a hot route"),
    ],
)
def test_a_url_is_read_from_its_end(target: str, wanted: str) -> None:
    assert run("asyncio", answer(target)) == wanted


def test_endings_are_told_longest_first() -> None:
    assert folder().endings == ["/chat/completions", "/completions", "/generate", ""]


def test_a_folder_answers_requests_that_follow_each_other() -> None:
    async def main() -> bytes:
        async with serving(hot_folders={"/models/": folder()}) as front:
            one = b"GET /models/a HTTP/1.1\r\nhost: x\r\n\r\n"
            last = b"GET /models/b/generate HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            return await asyncio.wait_for(front.exchange(one + one + last), 5)

    received = run("uvloop", main())
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.endswith(b"/generate b")
