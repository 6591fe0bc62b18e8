"""Whole runs against a server whose times, tokens and misbehaviour are known."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from deploy.bench import runfile
from deploy.bench.http1 import Pool
from deploy.bench.runfile import Run
from tests.deploy.bench.fake_openai import Fake, Script, fake_openai
from tests.deploy.bench.running import KEY, QUICK, bench, measured, started

WAIT_S = 20.0
FIRST_S, GAP_S, PIECES = 0.1, 0.03, 6
# What a call takes at least; the machine may add to it, but nothing takes from it.
E2E_S = FIRST_S + GAP_S * (PIECES - 1)
SLACK_S = 0.5
"""What a busy machine may add to a median."""


def test_what_a_closed_loop_reports_is_what_the_server_did(tmp_path: Path) -> None:
    with fake_openai(Script(FIRST_S, GAP_S, PIECES, per_piece=3)) as fake:
        run = measured(tmp_path, fake.url, "--concurrency", "1,3", "--duration", "800ms", "--slo", "e2e=60s,ttft=1ms")
    assert run.complete
    assert [item.stage.level for item in run.summaries] == [1, 3]
    for item in run.summaries:
        level = int(item.stage.level)
        assert (item.failed, item.errors, item.estimated_share) == (0, {}, 0.0)
        assert item.ttft.p50 is not None
        assert item.e2e.p50 is not None
        assert item.itl.mean is not None
        assert item.tpot.p50 is not None
        assert FIRST_S <= item.ttft.p50 < FIRST_S + SLACK_S
        assert E2E_S <= item.e2e.p50 < E2E_S + SLACK_S
        assert 0.5 * GAP_S < item.itl.mean < GAP_S + SLACK_S / PIECES
        # 18 tokens in 6 pieces: 17 intervals take as long as 5 gaps.
        assert 0.5 * GAP_S * 5 / 17 < item.tpot.p50 < (GAP_S * 5 + SLACK_S) / 17
        assert (item.output_tokens, item.input_tokens) == (18, 7)
        assert 0.25 * level / E2E_S < item.requests_per_s <= 1.02 * level / E2E_S
        assert item.output_tokens_per_s == pytest.approx(18 * item.requests_per_s, rel=0.6)
        assert 0.5 * level <= item.outstanding_mean <= level * 1.001
        assert (item.outstanding_max, item.goodput_share) == (level, 0.0)
        for call in run.stages[item.stage.index].data.calls:
            assert (call.began_s, call.chunks, call.output_tokens) == (call.intended_s, PIECES, 18)
    assert fake.most_active == 3
    assert fake.connections <= 1 + 3  # kept alive over calls and stages


def test_a_number_of_requests_is_kept_to_whatever_the_callers(tmp_path: Path) -> None:
    with fake_openai(Script(0.005)) as fake:
        run = measured(tmp_path, fake.url, "--concurrency", "1,2,5", "--requests", "7", "--no-ask-first")
    assert [item.succeeded for item in run.summaries] == [7, 7, 7]
    assert len(fake.bodies) == 21


def test_warm_up_and_ramp_are_not_measured(tmp_path: Path) -> None:
    with fake_openai(Script(0.02)) as fake:
        options = ("--concurrency", "2", "--requests", "4", "--warmup", "200ms", "--ramp", "100ms", "--no-ask-first")
        run = measured(tmp_path, fake.url, *options)
    (item,) = run.summaries
    assert item.calls == 4
    early = [call for call in run.stages[0].data.calls if call.intended_s < 0]
    assert len(early) >= 4
    assert min(call.intended_s for call in early) == pytest.approx(-0.3, abs=0.1)
    assert len(fake.bodies) == 4 + len(early)


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_an_open_loop_keeps_to_its_rate_however_slow_the_answers(tmp_path: Path, arrivals: str) -> None:
    with fake_openai(Script(0.4, pieces=1)) as fake:
        options = ("--rate", "40", "--arrivals", arrivals, "--duration", "1s", "--no-ask-first")
        run = measured(tmp_path, fake.url, *options)
    (item,) = run.summaries
    calls = run.stages[0].data.calls
    assert (item.calls, item.failed, item.held_back, item.never_begun) == (len(fake.bodies), 0, 0, 0)
    assert item.calls == 40 if arrivals == "constant" else 15 < item.calls < 70
    # 40 a second, of 0.4 s each: far more at a time than one caller who waits would have.
    assert item.outstanding_max >= 8
    assert fake.most_active >= 8
    assert all(call.began_s >= call.intended_s for call in calls)
    assert item.lateness.p50 is not None
    assert item.lateness.p50 < SLACK_S


def test_a_stall_shows_in_every_call_that_was_due_in_it(tmp_path: Path) -> None:
    """The closed loop has one slow call for its one caller; the open loop has all of those that fell into the stall."""
    with fake_openai(Script(0.001, pieces=1)) as fake:

        def stall_once(number: int) -> Script:
            if number == 10:
                fake.stalled_until_s = time.perf_counter() + 1.0
            return Script(0.001, pieces=1)

        fake.script = stall_once
        options = ("--arrivals", "constant", "--requests", "100", "--no-ask-first", "--max-outstanding", "8")
        run = measured(tmp_path, fake.url, "--rate", "50", *options)
    (item,) = run.summaries
    late = [call.e2e_s for call in run.stages[0].data.calls if call.e2e_s > 0.05]
    # Due each 20 ms, 50 calls fall into the second: they waited from 1 s down, in even steps, though only 8 of them
    # could begin in it.
    assert len(late) >= 40
    assert item.held_back >= 30
    assert item.e2e.max is not None
    assert item.e2e.p90 is not None
    assert 0.9 < item.e2e.max < 3
    assert item.e2e.p90 > 0.7
    assert "calls waited, as --max-outstanding was reached" in " ".join(item.generator_limits)


def test_calls_that_never_began_are_told(tmp_path: Path) -> None:
    with fake_openai(Script(0.3, pieces=1)) as fake:
        options = ("--rate", "50", "--arrivals", "constant", "--duration", "500ms", "--max-outstanding", "1")
        run = measured(tmp_path, fake.url, *options, "--no-ask-first")
    (item,) = run.summaries
    assert item.calls + item.never_begun == 25
    assert item.never_begun >= 15
    assert f"{item.never_begun} calls that were due never began" in item.generator_limits


ERRORS = [
    pytest.param(Script(status=429), "http_429:scripted", id="429"),
    pytest.param(Script(status=503, body=b"<html>no</html>"), "http_503", id="503 with a page"),
    pytest.param(Script(body=b"what?"), "malformed_answer", id="garbage with status 200"),
    pytest.param(Script(cut_after=2), "stream_cut", id="the connection closes in a stream"),
    pytest.param(Script(end_after=2), "stream_cut", id="a stream without its end"),
    pytest.param(Script(error_after=2), "stream_error:engine_died", id="an error in a stream"),
    pytest.param(Script(hang=True), "timeout_first_byte", id="silence"),
    pytest.param(Script(first_s=5), "timeout_idle", id="silence after the head"),
    pytest.param(Script(gap_s=0.05, pieces=100), "timeout_total", id="an answer that takes too long"),
]


@pytest.mark.parametrize(("script", "error"), ERRORS)
def test_a_failure_is_counted_by_its_kind(tmp_path: Path, script: Script, error: str) -> None:
    def every_second(number: int) -> Script:
        return script if number % 2 else Script()

    with fake_openai(every_second) as fake:
        options = ("--timeout", "600ms", "--idle-timeout", "300ms", "--no-ask-first")
        run = measured(tmp_path, fake.url, "--concurrency", "1", "--requests", "4", *options)
    (item,) = run.summaries
    assert (item.succeeded, item.failed, item.errors) == (2, 2, {error: 2})
    assert item.output_tokens == 4  # of the complete ones alone


def test_a_run_without_any_answer_is_a_failure_with_a_report(tmp_path: Path) -> None:
    with fake_openai(Script(status=503)) as fake:
        run = measured(tmp_path, fake.url, "--concurrency", "1", "--requests", "2", code=1)
    assert run.summaries[0].errors == {"http_503:scripted": 2}


def test_a_host_is_called_at_the_address_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = socket.getaddrinfo

    def both(host: str, port: int, *more: Any, **options: Any) -> list[Any]:
        found = looked_up("127.0.0.1", port, *more, **options)
        # As most machines have it for `localhost`, whatever this one says: where nobody listens comes first.
        return [(*each[:4], ("127.0.0.2", port)) for each in found] + found if host == "localhost" else found

    monkeypatch.setattr(socket, "getaddrinfo", both)

    async def connected() -> list[bool]:
        pool = Pool(f"http://localhost:{port}", time.perf_counter, tls=None, connect_timeout_s=WAIT_S)
        taken = [await pool.take() for _ in range(3)]
        found = [each.usable for each in taken]
        for each in taken:
            pool.give_back(each)
        await pool.aclose()
        return found

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert asyncio.run(connected()) == [True, True, True]
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(connected())


def test_nobody_listening_is_told_at_once() -> None:
    with fake_openai(Script()) as fake:
        url = fake.url
    result = bench("run", "--url", url, "--model", "m", "--concurrency", "1", code=1)
    assert "Error: the first call failed: connect_failed" in result.output


def test_a_refusal_is_told_in_the_words_of_the_server_without_the_key() -> None:
    body = b'{"error": {"message": "Bad key %b\\u001b[2J", "code": "invalid_api_key"}}' % KEY.encode()
    with fake_openai(Script(status=401, body=body)) as fake:
        result = bench("run", "--url", fake.url, "--model", "m", "--concurrency", "1", code=1)
    assert "Error: the first call failed: http_401:invalid_api_key: Bad key … [2J" in result.output


@pytest.mark.parametrize("close", ["told", "untold", "length"])
def test_servers_that_close_connections_cost_no_call(tmp_path: Path, close: str) -> None:
    with fake_openai(Script(close=close)) as fake:
        stream = ["--no-stream"] if close == "length" else []
        run = measured(tmp_path, fake.url, "--concurrency", "2", "--requests", "12", "--no-ask-first", *stream)
    (item,) = run.summaries
    assert (item.succeeded, item.failed) == (12, 0)
    assert fake.connections == 12
    assert item.reconnects == 0 if close != "untold" else item.reconnects <= 12


def test_whole_answers_have_no_first_token(tmp_path: Path) -> None:
    with fake_openai(Script(0.02)) as fake:
        run = measured(tmp_path, fake.url, "--concurrency", "1", "--requests", "3", "--no-stream")
    (item,) = run.summaries
    assert (item.succeeded, item.output_tokens, item.ttft.p50, item.itl.p50) == (3, 4, None, None)
    assert "stream" not in fake.bodies[0]


def test_completions_and_json_lines(tmp_path: Path) -> None:
    with fake_openai(Script(lines=True)) as fake:
        run = measured(tmp_path, fake.url, "--concurrency", "1", "--requests", "3", "--api", "completions")
    (item,) = run.summaries
    assert (item.succeeded, item.output_tokens) == (3, 4)
    assert fake.heads[0].startswith("POST /v1/completions HTTP/1.1\r\n")


def test_a_file_of_calls_is_sent_and_named_but_not_where_it_lies(tmp_path: Path) -> None:
    calls = tmp_path / "calls.jsonl"
    calls.write_text('{"prompt": "Why?", "max_tokens": 3}\n', encoding="utf-8")
    file = tmp_path / "run.json"
    with fake_openai(Script()) as fake:
        options = ("--prompts", str(calls), "--concurrency", "1", "--requests", "1", "--warmup", "0s")
        bench("run", "--url", fake.url, "--model", "m", *options, "--json", str(file))
    assert (fake.bodies[0]["messages"][0]["content"], fake.bodies[0]["max_tokens"]) == ("Why?", 3)
    text = file.read_text(encoding="utf-8")
    assert '"file":"calls.jsonl"' in text
    assert str(tmp_path) not in text


def test_estimated_tokens_are_marked(tmp_path: Path) -> None:
    with fake_openai(Script(per_piece=0)) as fake:
        file = tmp_path / "run.json"
        options = ("--concurrency", "1", "--requests", "2", "--json", str(file))
        result = bench("run", "--url", fake.url, "--model", "m", *QUICK, *options)
    assert runfile.read(file).summaries[0].output_tokens == 4
    assert "the output tokens of 100% of the calls are estimates: no usage came." in result.output


def test_several_processes_share_the_work_and_one_report(tmp_path: Path) -> None:
    with fake_openai(Script(0.05)) as fake:
        options = ("--processes", "2", "--no-ask-first", "--requests", "9")
        closed = measured(tmp_path, fake.url, "--concurrency", "1,5", *options)
        opened = measured(tmp_path, fake.url, "--rate", "60", *options, "--arrivals", "constant")
    assert [item.succeeded for item in closed.summaries] == [9, 9]
    assert closed.summaries[1].outstanding_max == 5
    assert len(closed.summaries[0].cpu) == 2
    (item,) = opened.summaries
    assert (item.succeeded, item.failed) == (9, 0)
    due = [call.intended_s for call in opened.stages[0].data.calls]
    assert due == pytest.approx([number / 60 for number in range(9)], abs=1e-3)


def test_the_same_seed_says_the_same_in_one_process_or_two(tmp_path: Path) -> None:
    said = []
    for processes, seed in (("1", "5"), ("2", "5"), ("1", "6")):
        with fake_openai(Script()) as fake:
            options = ("--requests", "6", "--processes", processes, "--seed", seed, "--no-ask-first", "--rate", "200")
            measured(tmp_path, fake.url, *options)
        said.append(sorted(body["messages"][0]["content"] for body in fake.bodies))
    assert said[0] == said[1] != said[2]


def interrupted(fake: Fake, file: Path, *options: str) -> tuple[Run, int, str]:
    fake.calls_wanted = 6
    arguments = ("run", "--url", fake.url, "--model", "m", *QUICK, "--duration", "60s", "--json", str(file))
    process = started(*arguments, "--no-ask-first", *options)
    try:
        assert fake.reached.wait(WAIT_S)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in errors
    return runfile.read(file), process.returncode, out


@pytest.mark.parametrize("processes", ["1", "2"])
def test_ctrl_c_keeps_what_has_been_measured(tmp_path: Path, processes: str) -> None:
    def slow_from_the_fifth_on(number: int) -> Script:
        return Script() if number < 4 else Script(hang=True)

    with fake_openai(slow_from_the_fifth_on) as fake:
        run, code, out = interrupted(fake, tmp_path / "run.json", "--concurrency", "2,4", "--processes", processes)
    assert code == 130
    assert not run.complete
    (item,) = run.summaries
    assert (item.complete, item.succeeded, item.failed, item.unfinished) == (False, 4, 0, 2)
    assert 0 < item.window_s < 30
    assert "The run is incomplete: it was interrupted." in out
    assert "At 2 2 calls were under way when the run was interrupted; none of them counts." in out


def test_the_key_is_nowhere_but_in_its_header(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("run.json", "run.csv", "run.html")]
    outputs = [part for file in files for part in (f"--{file.suffix[1:]}", str(file))]

    def refused(number: int) -> Script:
        told = b'{"error": {"message": "Your key %b", "code": "%b"}}' % (KEY.encode(), b"no")
        return Script(status=429, body=told) if number % 2 else Script()

    with fake_openai(refused) as fake:
        fake.calls_wanted = 3
        options = ("--concurrency", "2", "--requests", "20", "--processes", "2", *QUICK)
        process = started("run", "--url", fake.url, "--model", "m", *options, *outputs)
        assert fake.reached.wait(WAIT_S)
        listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        out, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, errors
    assert all(f"authorization: Bearer {KEY}\r\n" in head for head in fake.heads)
    assert "deploy.bench" in listed
    for where in (listed, out, errors, *(file.read_text(encoding="utf-8") for file in files)):
        assert KEY not in where


def test_csv_has_a_row_for_each_stage(tmp_path: Path) -> None:
    with fake_openai(Script()) as fake:
        file = tmp_path / "run.csv"
        options = ("--concurrency", "1,2", "--requests", "3", "--csv", str(file), "--label", "=cmd()")
        bench("run", "--url", fake.url, "--model", "m", *QUICK, *options)
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    assert [(row["label"], row["loop"], row["level"], row["succeeded"]) for row in rows] == [
        ("'=cmd()", "closed", "1.0", "3"),
        ("'=cmd()", "closed", "2.0", "3"),
    ]
    assert float(rows[0]["ttft_p99_s"]) > 0


URL = ["--url", "http://x", "--model", "m"]
BAD = [
    pytest.param(["--model", "m", "--concurrency", "1"], "one of --url and --endpoint is needed", id="no target"),
    pytest.param(["--url", "http://x", "--concurrency", "1"], "--model is needed with --url", id="no model"),
    pytest.param(
        ["--url", "ftp://x", "--model", "m", "--concurrency", "1"], "--url: it must begin with http", id="ftp"
    ),
    pytest.param(["--url", "http://x:y/", "--model", "m", "--concurrency", "1"], "--url: it is no URL", id="no port"),
    pytest.param(
        ["--url", "http://u:p@x", "--model", "m", "--concurrency", "1"], "it must hold no user", id="a password"
    ),
    pytest.param(
        ["--url", "http://x/?k=1", "--model", "m", "--concurrency", "1"], "it must hold no user", id="a query"
    ),
    pytest.param([*URL], "one of --concurrency and --rate is needed", id="no load"),
    pytest.param([*URL, "--concurrency", "0"], "--concurrency: '0' is no number", id="nobody"),
    pytest.param([*URL, "--rate", "x"], "--rate: 'x' is no rate", id="no rate"),
    pytest.param([*URL, "--rate", "1", "--variant", "a"], "--variant goes with --endpoint", id="variant"),
    pytest.param(["--endpoint", "a", "--concurrency", "1"], "--endpoint needs --region", id="no Region"),
    pytest.param(
        ["--endpoint", "a/b", "--region", "us-east-1", "--concurrency", "1"],
        "--endpoint: 'a/b' is no name",
        id="no name",
    ),
    pytest.param([*URL, "--rate", "1", "--duration", "1s", "--requests", "1"], "exclude each other", id="two lengths"),
    pytest.param([*URL, "--rate", "1", "--duration", "soon"], "--duration: 'soon' is no duration", id="no duration"),
    pytest.param([*URL, "--rate", "1", "--timeout", "0"], "--timeout: it must be above 0", id="no time"),
    pytest.param([*URL, "--rate", "1", "--input-tokens", "x"], "--input-tokens: 'x' is not N", id="no amount"),
    pytest.param([*URL, "--rate", "1", "--body", "[]"], "--body: it is no JSON object", id="no object"),
    pytest.param([*URL, "--rate", "1", "--body", '{"stream":1}'], "--body: stream cannot be set here", id="taken"),
    pytest.param([*URL, "--rate", "1", "--slo", "x=1"], "--slo: 'x=1' is not NAME=DURATION", id="no level"),
    pytest.param([*URL, "--rate", "1", "--slo", "ttft=1s,e2e=2s", "--no-stream"], "have no ttft", id="no first token"),
    pytest.param([*URL, "--rate", "1", "--image-size", "big"], "--image-size: 'big' is not", id="no size"),
    pytest.param([*URL, "--rate", "1", "--json", "/nowhere/x"], "--json: /nowhere/x cannot be written", id="no folder"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD)
def test_a_wrong_option_is_told_before_anything_is_called(arguments: list[str], said: str) -> None:
    output = re.sub(r"\s+", " ", bench("run", *arguments, code=2).output)
    assert said in output
