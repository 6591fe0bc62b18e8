"""Where credentials are found, and the process that looks for them: what it answers, and what is left of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.sagemaker import agent, credentials
from gateway.sagemaker.credentials import AgentFailed, Answer, CredentialStore, Question, ask_agent
from gateway.sagemaker.sigv4 import Credentials
from tests.sagemaker.peer import Peer, PeerConnection, anyio_backend, reply, settled, until, within
from tests.support.moto_server import running_moto

__all__ = ["anyio_backend"]  # the fixture: both event loops

pytestmark = pytest.mark.anyio

DEFAULT: dict[str, str | None] = {"role_arn": None, "external_id": None, "region": "us-east-1"}
ROLE: dict[str, str | None] = {
    "role_arn": "arn:aws:iam::123456789012:role/invoke", "external_id": "ex-1", "region": "us-east-1"
}  # fmt: skip
EXPIRES = 2_000_000_000


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Credentials are nowhere but where a test puts them."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


class OneLoop:
    """Tests of what is the same on every event loop."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"


def profiles(folder: Path, text: str) -> str:
    file = folder / "credentials"
    file.write_text(text)
    return str(file)


def document(key: str = "ASIACONTAINER", expires: float = EXPIRES) -> bytes:
    """Return what the metadata services of containers and instances answer."""
    until_when = datetime.fromtimestamp(expires, UTC).isoformat().replace("+00:00", "Z")
    return json.dumps(
        {"Code": "Success", "AccessKeyId": key, "SecretAccessKey": "secret", "Token": "token", "Expiration": until_when}
    ).encode()


# --- where credentials are found -----------------------------------------------------------------------------------


class TestPlaces(OneLoop):
    async def test_nowhere(self) -> None:
        assert await agent.answer([DEFAULT]) == [{"error": "NoCredentials"}]

    @pytest.mark.parametrize("token", [None, "token/with+signs=="])
    async def test_the_environment(self, environment: pytest.MonkeyPatch, token: str | None) -> None:
        environment.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        if token:
            environment.setenv("AWS_SESSION_TOKEN", token)
        assert await agent.answer([DEFAULT]) == [
            {"access_key": "AKIAENV", "secret_key": "secret", "token": token, "expires_at": None}
        ]

    async def test_a_profile(self, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
        text = (
            "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = one\n"
            "[other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = two\naws_session_token = three\n"
        )
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", profiles(tmp_path, text))
        (found,) = await agent.answer([DEFAULT])
        assert (found["access_key"], found["secret_key"], found["token"]) == ("AKIADEFAULT", "one", None)
        environment.setenv("AWS_PROFILE", "other")
        (found,) = await agent.answer([DEFAULT])
        assert (found["access_key"], found["secret_key"], found["token"]) == ("AKIAOTHER", "two", "three")

    async def test_a_profile_that_does_not_exist(self, environment: pytest.MonkeyPatch) -> None:
        environment.setenv("AWS_PROFILE", "missing")
        assert await agent.answer([DEFAULT]) == [{"error": "ProfileNotFound"}]

    async def test_a_process_named_by_a_profile(self, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
        answer = tmp_path / "answer.json"
        answer.write_text(
            '{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "secret", "SessionToken": "token",'
            ' "Expiration": "2033-05-18T03:33:20Z"}'
        )
        file = profiles(tmp_path, f"[default]\ncredential_process = cat {answer}\n")
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", file)
        assert await agent.answer([DEFAULT]) == [
            {"access_key": "AKIAPROCESS", "secret_key": "secret", "token": "token", "expires_at": EXPIRES}
        ]

    async def test_a_container(self, environment: pytest.MonkeyPatch) -> None:
        async def script(peer: PeerConnection) -> None:
            while True:
                await peer.request()
                await peer.send(reply(document()))

        async with Peer(script) as peer:
            environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{peer.url}/v1/credentials")
            environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let me in")
            assert await agent.answer([DEFAULT]) == [
                {"access_key": "ASIACONTAINER", "secret_key": "secret", "token": "token", "expires_at": EXPIRES}
            ]
            assert peer.requests[0].line == "GET /v1/credentials HTTP/1.1"
            assert peer.requests[0].headers["authorization"] == "let me in"

    async def test_an_instance(self, environment: pytest.MonkeyPatch) -> None:
        async def script(peer: PeerConnection) -> None:
            while True:
                method, path, _ = (await peer.request()).line.split(" ")
                body = {"PUT": b"session-token", "/": b"the-role"}.get(method if method == "PUT" else path[-1])
                await peer.send(reply(body or document("ASIAINSTANCE")))

        async with Peer(script) as peer:
            environment.delenv("AWS_EC2_METADATA_DISABLED")
            environment.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", peer.url)
            (found,) = await agent.answer([DEFAULT])
            assert (found["access_key"], found["expires_at"]) == ("ASIAINSTANCE", EXPIRES)
            assert peer.requests[0].line == "PUT /latest/api/token HTTP/1.1"

    async def test_a_place_that_takes_too_long(self, environment: pytest.MonkeyPatch) -> None:
        async with Peer(PeerConnection.gone) as peer:
            environment.setattr(agent, "ATTEMPT_TIMEOUT_S", 0.1)
            environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{peer.url}/v1/credentials")
            assert await agent.answer([DEFAULT]) == [{"error": "TimeoutError"}]

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"AccessKeyId": "AKIA"}'])
    async def test_a_place_that_answers_nonsense(self, environment: pytest.MonkeyPatch, body: bytes) -> None:
        async def script(peer: PeerConnection) -> None:
            while True:
                await peer.request()
                await peer.send(reply(body))

        async with Peer(script) as peer:
            environment.setattr(agent, "ATTEMPT_TIMEOUT_S", 0.5)
            environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{peer.url}/v1/credentials")
            (found,) = await agent.answer([DEFAULT])
            assert re.fullmatch(r"[A-Za-z]+", found["error"])


# --- roles, by an STS that is not ours -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """Return the address of moto's server."""
    with running_moto() as url:
        yield url


@pytest.fixture
def sts(environment: pytest.MonkeyPatch, moto: str) -> str:
    environment.setenv("AWS_ENDPOINT_URL_STS", moto)
    environment.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return moto


class TestRoles(OneLoop):
    async def test_a_role_is_assumed(self, sts: str) -> None:
        own, role = await agent.answer([DEFAULT, ROLE])
        assert (own["access_key"], own["expires_at"]) == ("AKIAENV", None)
        assert role["access_key"].startswith("ASIA")
        assert role["token"]
        assert 3_000 < role["expires_at"] - time.time() < 3_700

    async def test_a_web_identity(self, environment: pytest.MonkeyPatch, tmp_path: Path, moto: str) -> None:
        token = tmp_path / "token"
        token.write_text("eyJhbGciOiJub25lIn0.eyJzdWIiOiJnYXRld2F5In0.")
        environment.setenv("AWS_ENDPOINT_URL_STS", moto)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod")
        environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        (found,) = await agent.answer([DEFAULT])
        assert found["access_key"].startswith("ASIA")
        assert found["expires_at"] > time.time() + 3_000

    async def test_a_profile_that_assumes_a_role(
        self, environment: pytest.MonkeyPatch, tmp_path: Path, moto: str
    ) -> None:
        text = (
            "[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = secret\n"
            "[default]\nrole_arn = arn:aws:iam::123456789012:role/deep\nsource_profile = base\nregion = us-east-1\n"
        )
        environment.setenv("AWS_ENDPOINT_URL_STS", moto)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", profiles(tmp_path, text))
        (found,) = await agent.answer([DEFAULT])
        assert found["access_key"].startswith("ASIA")

    async def test_what_is_asked_of_sts(self, environment: pytest.MonkeyPatch, sts: str) -> None:
        async def script(peer: PeerConnection) -> None:
            while True:
                await peer.request()
                await peer.send(reply(DENIED, "Content-Type: text/xml", status="403 Forbidden"))

        async with Peer(script) as peer:
            environment.setenv("AWS_ENDPOINT_URL_STS", peer.url)
            own, plain, role = await agent.answer([DEFAULT, ROLE | {"external_id": None}, ROLE])
            assert own["access_key"] == "AKIAENV"
            assert plain == role == {"error": "AccessDenied"}  # and nothing of the text, which names accounts
            bodies = sorted(request.body for request in peer.requests)
            wanted = (
                b"Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Finvoke"
                b"&RoleSessionName=lmi-gateway"
            )
            assert bodies == [wanted, wanted + b"&ExternalId=ex-1"]


DENIED = (
    b'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
    b"<Code>AccessDenied</Code><Message>User: arn:aws:iam::123456789012:user/canary</Message></Error></ErrorResponse>"
)


# --- the process ---------------------------------------------------------------------------------------------------


async def test_the_process_answers_from_its_environment_and_sts(sts: str) -> None:
    own, role = await within(ask_agent([DEFAULT, ROLE]), 30)
    assert own == Credentials("AKIAENV", "secret", None, None)
    assert isinstance(role, Credentials)
    assert role.access_key.startswith("ASIA")
    assert "secret" not in repr(own)
    assert role.token
    assert role.token not in repr(role)


async def test_the_process_says_why_there_are_none() -> None:
    assert await within(ask_agent([DEFAULT]), 30) == ["NoCredentials"]


@pytest.fixture
def acting(environment: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return what puts a program in the agent's place."""
    environment.chdir(tmp_path)

    def act(program: str) -> None:
        file = tmp_path / "agent.py"
        file.write_text(program)
        environment.setattr(credentials, "AGENT", file)

    return act


ONE = '{"access_key": "A", "secret_key": "B", "token": null, "expires_at": null}'


@pytest.mark.parametrize(("program", "reason"), [
    pytest.param("# raise SystemExit(3)", "DecodeError", id="fails"),
    pytest.param("#", "DecodeError", id="says nothing"),
    pytest.param("# print('Traceback')", "DecodeError", id="says something else"),
    pytest.param(f"# print('[{ONE}] more')", "DecodeError", id="says more"),
    pytest.param("# print('{}')", "ValidationError", id="answers an object"),
    pytest.param("# print('[1]')", "ValidationError", id="answers a number"),
    pytest.param("# print('[{}]')", "ValidationError", id="answers nothing of use"),
    pytest.param(f"# print('''[{ONE.replace('null', '7')}]''')", "ValidationError", id="answers other types"),
    pytest.param("# print('[]')", "not an answer to the question", id="answers too little"),
    pytest.param(f"# print('[{ONE}, {ONE}]')", "not an answer to the question", id="answers too much"),
    pytest.param("# import sys; sys.stdout.buffer.write(b'\\xff')", "DecodeError", id="bytes that are no text"),
    pytest.param("# print('[{\"a\":' * 100_000)", "RecursionError", id="nested without end"),
    pytest.param("# import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "DecodeError", id="is killed"),
    pytest.param("import os; os.close(0); print('[]')", "not an answer|Error", id="does not listen"),
    pytest.param("raise SystemExit(3)", "Error", id="is gone before it was asked"),
])  # fmt: skip
async def test_a_process_without_an_answer_has_failed(acting: Callable[[str], None], program: str, reason: str) -> None:
    acting(program.replace("#", "import sys; sys.stdin.read();", 1))
    with pytest.raises(AgentFailed, match=reason) as caught:
        await within(ask_agent([DEFAULT]))
    assert "Traceback" not in str(caught.value)


async def test_a_process_that_cannot_be_started_has_failed(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(AgentFailed, match="FileNotFoundError"):
        await ask_agent([DEFAULT])


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and that nobody has buried yet does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def buried(*processes: int) -> None:
    """Wait until none of them runs, and until the loop has seen the ends of their pipes."""
    await until(lambda: not any(map(alive, processes)))
    await settled()


# It hears the question out first: who asks is then waiting for the answer, not still starting the process.
HANGS = """
import os, signal, subprocess, sys, time
sys.stdin.read()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"])
with open("pids.new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename("pids.new", "pids")
time.sleep(600)
"""


def pids(folder: Path) -> list[int]:
    """Return the processes that wrote themselves down before they were killed."""
    file = folder / "pids"
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


async def test_a_process_that_hangs_is_killed_with_its_children(
    acting: Callable[[str], None], environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    acting(HANGS)
    asking = asyncio.ensure_future(ask_agent([DEFAULT]))
    await until((tmp_path / "pids").exists)
    assert [alive(pid) for pid in pids(tmp_path)] == [True, True]
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(asking)
    await buried(*pids(tmp_path))


async def test_a_process_that_takes_too_long_is_killed(
    acting: Callable[[str], None], environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    acting(HANGS)
    environment.setattr(credentials, "AGENT_TIMEOUT_S", 1.0)
    with pytest.raises(AgentFailed, match="TimeoutError"):
        await within(ask_agent([DEFAULT]))
    await buried(*pids(tmp_path))


async def test_children_that_outlive_the_process_are_killed(acting: Callable[[str], None]) -> None:
    acting(
        "import json, subprocess, sys\n"
        "sys.stdin.read()\n"
        "quiet = subprocess.DEVNULL\n"
        "child = subprocess.Popen(['sleep', '600'], stdin=quiet, stdout=quiet, stderr=quiet)\n"
        "print(json.dumps([{'error': str(child.pid)}]))\n"
    )
    (child,) = await within(ask_agent([DEFAULT]))
    assert isinstance(child, str)
    await buried(int(child))


async def test_stopping_the_store_leaves_no_process(acting: Callable[[str], None], tmp_path: Path) -> None:
    acting('print(\'[{"error": "Nothing"}]\')')
    store = CredentialStore()
    store.source(None, None, "us-east-1")
    await store.start()
    assert store.problems() == ["default"]
    acting(HANGS)
    store._asked_at = -credentials.RETRY_S  # long ago, as if the next attempt were due
    store.sources[0].refused()
    await until((tmp_path / "pids").exists)
    await within(store.stop())
    await buried(*pids(tmp_path))
    assert [task for task in asyncio.all_tasks() if task.get_name() == "aws credentials"] == []


# --- credentials that expire in seconds ----------------------------------------------------------------------------


class TestExpiry(OneLoop):
    async def test_short_lived_credentials_are_renewed_before_they_expire(
        self, environment: pytest.MonkeyPatch
    ) -> None:
        async def script(peer: PeerConnection) -> None:
            while True:
                await peer.request()
                await peer.send(reply(document(f"ASIA{len(served.requests)}", time.time() + 2.0)))

        async def ask(question: Question) -> Answer:
            found: list[dict[str, Any]] = await agent.answer(list(question))
            return [msgspec.convert(each, Credentials) for each in found]

        environment.setattr(credentials, "RETRY_S", 0.05)
        async with Peer(script) as served:
            environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{served.url}/")
            store = CredentialStore(ask)
            source = store.source(None, None, "us-east-1")
            await store.start()
            used, ends = set[str](), time.monotonic() + 2.5
            while time.monotonic() < ends:
                current = source.current()
                assert current is not None, f"none after {used}"
                used.add(current.access_key)
                await asyncio.sleep(0.01)
            await store.stop()
        assert len(used) >= 2


def test_the_environment_of_the_tests_holds_no_credentials() -> None:
    assert not [name for name in os.environ if name.startswith("AWS_") and "KEY" in name]
