"""Records of usage in S3 and on Firehose: moto's where AWS behaves, a server of the tests' own where it does not."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from gateway.sagemaker import usage
from gateway.sagemaker.usage import MAX_BYTES, FirehoseDestination, S3Destination
from gateway.telemetry.usage import Destination
from tests.support.moto_server import running_moto

REGION = "eu-west-1"
NIGHT = 1_790_000_000.0
"""2026-09-21T14:13:20Z"""


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAUSAGE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with running_moto() as url:
        yield url


class Ended:
    """Ends the destinations that a test has made."""

    def __init__(self) -> None:
        self._made: list[Destination] = []

    def s3(self, bucket: str = "billing", prefix: str = "lmi/gateway") -> S3Destination:
        made = S3Destination(bucket, prefix, REGION, clock=lambda: NIGHT)
        self._made.append(made)
        return made

    def firehose(self, stream: str = "usage") -> FirehoseDestination:
        made = FirehoseDestination(stream, REGION)
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close()


@pytest.fixture
def make() -> Iterator[Ended]:
    ended = Ended()
    yield ended
    ended.close()


def objects(s3: Any, bucket: str) -> dict[str, bytes]:
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def test_every_batch_is_an_object_of_its_own(moto: str, make: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    s3 = boto3.client("s3", region_name=REGION, endpoint_url=moto)
    s3.create_bucket(Bucket="billing", CreateBucketConfiguration={"LocationConstraint": REGION})
    one, other = make.s3(), make.s3()
    assert one.write([b'{"id":"1"}', b'{"id":"2"}']) == ([], "")
    assert one.write([b'{"id":"3"}']) == ([], "")
    assert other.write([b'{"id":"4"}']) == ([], "")
    found = objects(s3, "billing")
    assert sorted(gzip.decompress(data) for data in found.values()) == [
        b'{"id":"1"}\n{"id":"2"}\n',
        b'{"id":"3"}\n',
        b'{"id":"4"}\n',
    ]
    shape = r"lmi/gateway/dt=2026-09-21/hour=14/20260921T141320Z-([0-9a-f]{16})-(00000[12])\.jsonl\.gz"
    names = [re.fullmatch(shape, key) for key in found]
    assert all(names)
    assert sorted(name[2] for name in names if name) == ["000001", "000001", "000002"]


def test_a_bucket_that_is_missing_keeps_the_records(moto: str, make: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    s3 = boto3.client("s3", region_name=REGION, endpoint_url=moto)
    there = make.s3("late", "")
    assert there.write([b"1"]) == ([b"1"], "NoSuchBucket")
    s3.create_bucket(Bucket="late", CreateBucketConfiguration={"LocationConstraint": REGION})
    assert there.write([b"1"]) == ([], "")
    (key,) = objects(s3, "late")
    assert key.startswith("dt=2026-09-21/hour=14/")
    assert key.endswith("-000001.jsonl.gz")


def test_a_stream_gets_every_record_as_a_line(moto: str, make: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_FIREHOSE", moto)
    s3 = boto3.client("s3", region_name=REGION, endpoint_url=moto)
    s3.create_bucket(Bucket="delivered", CreateBucketConfiguration={"LocationConstraint": REGION})
    firehose = boto3.client("firehose", region_name=REGION, endpoint_url=moto)
    role = "arn:aws:iam::123456789012:role/firehose"
    firehose.create_delivery_stream(
        DeliveryStreamName="usage",
        S3DestinationConfiguration={"RoleARN": role, "BucketARN": "arn:aws:s3:::delivered"},
    )
    lines = [b'{"id":"%d"}' % number for number in range(1100)]
    assert make.firehose().write(lines) == ([], "")
    found = b"".join(objects(s3, "delivered").values())
    assert sorted(found.splitlines()) == sorted(lines)


def test_a_stream_that_is_missing_keeps_the_records(moto: str, make: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_FIREHOSE", moto)
    assert make.firehose("nowhere").write([b"1", b"2"]) == ([b"1", b"2"], "ResourceNotFoundException")


class Odd:
    """A Firehose that answers as it is told."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.answers: list[tuple[int, Any]] = []
        self.held = threading.Event()
        self.held.set()
        self.asked = threading.Event()
        odd = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                odd.batches.append([base64.b64decode(record["Data"]) for record in asked["Records"]])
                odd.asked.set()
                odd.held.wait()
                status, answer = odd.answers.pop(0) if odd.answers else (200, taken(len(asked["Records"])))
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/x-amz-json-1.1")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.held.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def taken(records: int, *failed: int) -> dict[str, Any]:
    refusal = {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "account 123456789012 is slow"}
    responses = [refusal if number in failed else {"RecordId": str(number)} for number in range(records)]
    return {"FailedPutCount": len(failed), "Encrypted": False, "RequestResponses": responses}


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Odd]:
    odd = Odd()
    monkeypatch.setenv("AWS_ENDPOINT_URL_FIREHOSE", odd.url)
    yield odd
    odd.close()


def test_only_records_that_failed_come_back(odd: Odd, make: Ended) -> None:
    odd.answers = [(200, taken(5, 1, 3))]
    there = make.firehose()
    assert there.write([b"a", b"b", b"c", b"d", b"e"]) == ([b"b", b"d"], "ServiceUnavailableException")
    assert there.write([b"b", b"d"]) == ([], "")
    assert odd.batches == [[b"a\n", b"b\n", b"c\n", b"d\n", b"e\n"], [b"b\n", b"d\n"]]


def test_a_batch_that_is_refused_does_not_hold_up_the_next(odd: Odd, make: Ended) -> None:
    refused = {"__type": "InvalidArgumentException", "message": "of account 123456789012"}
    odd.answers = [(400, refused)]
    lines = [b"%d" % number for number in range(700)]
    assert make.firehose().write(lines) == (lines[:500], "InvalidArgumentException")
    assert [len(batch) for batch in odd.batches] == [500, 200]


def test_a_throttled_batch_comes_back_with_aws_word_for_it(odd: Odd, make: Ended) -> None:
    odd.answers = [(500, {"__type": "ServiceUnavailableException", "message": "Slow down."})] * 2
    assert make.firehose().write([b"1"]) == ([b"1"], "ServiceUnavailableException")
    assert len(odd.batches) == 2  # botocore asks once more by itself


def test_no_request_is_larger_than_firehose_takes(odd: Odd, make: Ended) -> None:
    lines = [b"x" * 400_000 for _ in range(20)]
    assert make.firehose().write(lines) == ([], "")
    sizes = [sum(map(len, batch)) for batch in odd.batches]
    assert len(sizes) == 3
    assert max(sizes) <= MAX_BYTES + 20


def test_the_agent_is_started_anew_after_it_died(odd: Odd, make: Ended) -> None:
    there = make.firehose()
    assert there.write([b"1"]) == ([], "")
    process = there._agent._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left, _ = there.write([b"2"])
    assert left == [b"2"]
    assert there.write([b"2"]) == ([], "")


def test_an_answer_that_does_not_come_is_given_up(odd: Odd, make: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    there = make.firehose()
    assert there.write([b"1"]) == ([], "")
    monkeypatch.setattr(usage, "ANSWER_S", 0.2)
    odd.held.clear()
    assert there.write([b"2"]) == ([b"2"], "TimeoutError")
    odd.held.set()
    monkeypatch.setattr(usage, "ANSWER_S", 20.0)
    assert there.write([b"2"]) == ([], "")


def test_a_write_can_be_aborted(odd: Odd, make: Ended) -> None:
    there = make.firehose()
    odd.held.clear()
    found: list[Any] = []
    writing = threading.Thread(target=lambda: found.append(there.write([b"1"])))
    writing.start()
    assert odd.asked.wait(20)
    there.abort()
    writing.join(10)
    assert found[0][0] == [b"1"]
    assert there.write([b"2"]) == ([b"2"], "BrokenPipeError")


def test_the_agent_ends_with_its_gateway(odd: Odd, make: Ended) -> None:
    there = make.firehose()
    assert there.write([b"1"]) == ([], "")
    process = there._agent._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 0
    there._agent.stop()


def test_the_serving_process_does_not_load_aws_libraries() -> None:
    text = Path(usage.__file__).read_text()
    assert "import aioboto3" not in text
    assert "import boto" not in text


def test_without_credentials_the_reason_is_said(odd: Odd, make: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert make.firehose().write([b"1"]) == ([b"1"], "NoCredentialsError")
