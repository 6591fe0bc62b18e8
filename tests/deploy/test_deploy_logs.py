"""Logs of containers: their end, all since some time, and what comes."""

from __future__ import annotations

import itertools
import time

import pytest

from deploy.aws import Aws
from deploy.logs import follow, since_s, tail
from deploy.resources import Key
from tests.deploy.deploy_cloud import KEYS, MANIFEST, Cloud

CHAT: Key = ("endpoint", "chat")
GROUP = "/aws/sagemaker/Endpoints/chat"


class Writer:
    """A container that writes."""

    def __init__(self, cloud: Cloud) -> None:
        self._logs = cloud.client("logs")
        self._logs.create_log_group(logGroupName=GROUP)

    def write(self, stream: str, *lines: str, ago_s: float = 1) -> None:
        if not self._logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=stream)["logStreams"]:
            self._logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
        at = int((time.time() - ago_s) * 1000)
        events = [{"timestamp": at + number, "message": line} for number, line in enumerate(lines)]
        self._logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)


@pytest.fixture
def writer(cloud: Cloud) -> Writer:
    return Writer(cloud)


@pytest.fixture
def aws(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Aws:
    for name, value in KEYS.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    return Aws("us-east-1")


def test_the_end_of_a_log_is_that_of_all_its_containers(writer: Writer, aws: Aws) -> None:
    writer.write("AllTraffic/i-1", "one", "two", ago_s=30)
    writer.write("AllTraffic/i-2", "three\n", ago_s=20)
    assert tail(aws, CHAT, 2) == ["two", "three"]
    assert tail(aws, ("inference-component", "chat"), 2) == []


def test_a_followed_log_gives_each_line_once_and_those_that_come_late(writer: Writer, aws: Aws) -> None:
    writer.write("AllTraffic/i-1", "first")
    pauses = 0

    def sleep(_: float) -> None:
        nonlocal pauses
        pauses += 1
        # The first pause brings nothing, the second a line, and one that is older than what was printed.
        if pauses == 2:
            writer.write("AllTraffic/i-1", "second", ago_s=0)
            writer.write("AllTraffic/i-2", "late", ago_s=10)

    came = follow(aws, [CHAT], since_ms=int((time.time() - 60) * 1000), pause_s=0, sleep=sleep)
    assert [line.text for line in itertools.islice(came, 3)] == ["first", "late", "second"]


def test_lines_before_are_not_printed(writer: Writer, cloud: Cloud) -> None:
    writer.write("AllTraffic/i-1", "long ago", ago_s=700)
    writer.write("AllTraffic/i-1", "now")
    printed = cloud.run(MANIFEST, "logs", "--since", "10m").out
    assert [line.split(" ", 2)[1:] for line in printed.splitlines()] == [["chat", "now"]]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("90s", 90, id="seconds"),
        pytest.param("10m", 600, id="minutes"),
        pytest.param("2h", 7200, id="hours"),
        pytest.param("1d", 86_400, id="days"),
    ],
)
def test_times_are_numbers_with_a_unit(text: str, seconds: int) -> None:
    assert since_s(text) == seconds
