"""The tests with SDKs can fail: what is not checked, what goes wrong, and what leaves this machine is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import sdks
from tests.support.full_stack import Stack
from tests.support.sdks import Script, run_node, run_python, run_script, why_not_node

NOWHERE = {"GATEWAY_URL": "http://127.0.0.1:1", "GATEWAY_KEY": "k", "GATEWAY_MODELS": "a b"}
CHECKS = """
from tests.e2e.clients.checks import check, raises, run

@check
def good(model): pass

@check
async def bad(model):
    assert model == "a", "it is not a"

@check
def unraised(model):
    with raises(ValueError): pass

@check
def misnamed(model):
    with raises(ValueError, "x"): raise ValueError("y")

print("said on the way")
run()
"""
NODE_CHECKS = """
import { check, rejects, run } from "./checks.mjs";
check("good", async () => {});
check("bad", async (model) => { if (model !== "a") throw new Error("it is not a"); });
check("unthrown", () => rejects(Error, async () => {}));
check("misnamed", () => rejects(TypeError, async () => { throw new TypeError("y"); }, "x"));
console.log("said on the way");
await run();
"""
REACHING = [
    pytest.param("import socket; socket.create_connection(('192.0.2.1', 80))", "192.0.2.1", id="by address"),
    pytest.param("import urllib.request as r; r.urlopen('http://example.com')", "example.com", id="by name"),
    pytest.param(
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "192.0.2.1",
        id="by datagram",
    ),
    pytest.param(
        "import threading as t, urllib.request as r; t.Thread(target=r.urlopen, args=('http://example.com',)).start()",
        "example.com",
        id="in a thread whose errors nobody sees",
    ),
]
without_node = pytest.mark.skipif(why_not_node() != "", reason=why_not_node())


def verdicts_of(told: dict[str, str]) -> dict[str, str]:
    """Return the last line of each verdict that is an error."""
    return {name: verdict.strip().splitlines()[-1] for name, verdict in told.items()}


def test_each_check_has_its_verdict(tmp_path: Path) -> None:
    ran = run_python(["-c", CHECKS], "sdks", tmp_path, NOWHERE)
    assert verdicts_of(ran.verdicts) == {
        "a: good": "ok",
        "a: bad": "ok",
        "a: unraised": "AssertionError: no ValueError was raised",
        "a: misnamed": "AssertionError: ['x'] not in y ValueError('y') None",
        "b: good": "ok",
        "b: bad": "AssertionError: it is not a",
        "b: unraised": "AssertionError: no ValueError was raised",
        "b: misnamed": "AssertionError: ['x'] not in y ValueError('y') None",
    }
    assert (ran.exit_code, ran.printed, ran.refused) == (1, "said on the way\n", [])


@without_node
def test_each_check_of_node_has_its_verdict(tmp_path: Path) -> None:
    (tmp_path / "checks.mjs").write_text((Path(__file__).parent / "clients" / "checks.mjs").read_text())
    (tmp_path / "script.mjs").write_text(NODE_CHECKS)
    ran = run_node(["script.mjs"], tmp_path, NOWHERE)
    assert {name: verdict.partition("\n")[0] for name, verdict in ran.verdicts.items()} == {
        "a: good": "ok",
        "a: bad": "ok",
        "a: unthrown": "AssertionError [ERR_ASSERTION]: no Error was thrown",
        "a: misnamed": "AssertionError [ERR_ASSERTION]: x is not in TypeError: y undefined undefined undefined",
        "b: good": "ok",
        "b: bad": "Error: it is not a",
        "b: unthrown": "AssertionError [ERR_ASSERTION]: no Error was thrown",
        "b: misnamed": "AssertionError [ERR_ASSERTION]: x is not in TypeError: y undefined undefined undefined",
    }
    assert (ran.exit_code, ran.printed, ran.refused) == (1, "said on the way\n", [])


@pytest.mark.parametrize(("program", "host"), REACHING)
def test_another_host_is_refused_and_told(tmp_path: Path, program: str, host: str) -> None:
    ran = run_python(["-c", program], "sdks", tmp_path, {})
    assert ran.refused == [host]
    assert "this process contacts its own machine only" in ran.errors


@without_node
@pytest.mark.parametrize("url", ["http://192.0.2.1/", "https://example.com/"])
def test_another_host_is_refused_to_node_and_told(tmp_path: Path, url: str) -> None:
    ran = run_node(["-e", f"fetch({url!r}).catch(() => console.log('failed'))"], tmp_path, {})
    assert (ran.refused, ran.printed.strip()) == ([url.split("/")[2]], "failed")


def test_a_developers_own_settings_are_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    ran = run_python(["-c", "import os; print(sorted(os.environ), os.path.expanduser('~'))"], "sdks", tmp_path, {})
    assert "HF_TOKEN" not in ran.printed
    assert str(tmp_path) in ran.printed


def test_what_a_script_left_and_what_it_read_to_the_end_is_counted(stack: Stack, tmp_path: Path) -> None:
    ran = run_script(Script("leaving", "sdks", checks=("reads", "leaves"), models=("vllm",)), stack, tmp_path)
    assert ran.verdicts == {"vllm: reads": "ok", "vllm: leaves": "ok"}, ran.errors
    assert (ran.left, ran.read) == (1, 1)


def test_a_program_that_does_not_end_is_ended_and_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdks, "TIMEOUT_S", 0.5)
    with pytest.raises(sdks.Hung, match=r"took 0\.5 s") as caught:
        sdks.run([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path, {}, cwd=tmp_path)
    assert (caught.value.known, caught.value.waiting) == (False, 0.0)
