"""No SDK: one slow stream is read to its end, another is left, so that the tests can tell whether they would notice."""

from __future__ import annotations

import http.client
import json

from tests.e2e.clients.checks import KEY, URL, check, run, slow


def opened(model: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    asked = {"model": slow(model), "messages": [{"role": "user", "content": "hello"}], "stream": True}
    connection = http.client.HTTPConnection(URL.removeprefix("http://"), timeout=20)
    connection.request("POST", "/v1/chat/completions", json.dumps(asked), {"Authorization": f"Bearer {KEY}"})
    return connection, connection.getresponse()


@check
def reads(model: str) -> None:
    connection, reply = opened(model)
    assert reply.read().endswith(b"data: [DONE]\n\n")
    connection.close()


@check
def leaves(model: str) -> None:
    connection, reply = opened(model)
    assert reply.readline().startswith(b"data: ")
    reply.close()
    connection.close()


if __name__ == "__main__":
    run()
