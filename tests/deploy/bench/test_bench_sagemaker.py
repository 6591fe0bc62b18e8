"""Against the product: the gateway, and SageMaker itself with LMI and vLLM behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.bench import runfile
from deploy.bench.runfile import Run
from deploy.bench.signing import runtime_origin
from deploy.local import DEMO_KEY, Container, Endpoint, faults
from deploy.local.engine import build
from deploy.local.faults import Fault
from tests.deploy.bench.running import QUICK, bench
from tests.support.stack import KEY, Local, config, running_gateway, running_local

FIRST_S, GAP_S = 0.05, 0.01
PACE: dict[str, Any] = {"first_token_delay_s": FIRST_S, "token_delay_s": GAP_S}
AWS = {"AWS_ACCESS_KEY_ID": DEMO_KEY.id, "AWS_SECRET_ACCESS_KEY": DEMO_KEY.secret}


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    endpoints: dict[str, Container | Endpoint] = {
        "lmi": build("lmi27", **PACE),
        "vllm": build("vllm", **PACE),
        "shared": Endpoint(build("lmi27"), variant="blue", components={"part": None}),
    }
    with running_local(endpoints, cut="sizes:7,100,31") as running:
        yield running


def straight(local: Local, path: Path, endpoint: str, *options: str, code: int = 0, **environment: str) -> Run:
    file = path / "run.json"
    where = ("--endpoint", endpoint, "--region", "us-east-1", "--runtime-url", local.url)
    bench("run", *where, *QUICK, *options, "--json", str(file), code=code, **AWS, **environment)
    assert DEMO_KEY.secret not in file.read_text(encoding="utf-8")
    return runfile.read(file)


@pytest.mark.parametrize("name", ["lmi", "vllm"])
def test_an_endpoint_is_called_straight_and_its_container_found(local: Local, tmp_path: Path, name: str) -> None:
    options = ("--concurrency", "2", "--requests", "6", "--output-tokens", "9", "--ignore-eos")
    run = straight(local, tmp_path, name, *options)
    (item,) = run.summaries
    assert run.plan.target.container == name
    assert (item.succeeded, item.failed, item.output_tokens, item.estimated_share) == (6, 0, 9, 0.0)
    assert item.input_tokens is not None
    assert item.ttft.p50 is not None
    assert item.tpot.p50 is not None
    assert FIRST_S <= item.ttft.p50 < FIRST_S + 0.3
    assert 0.8 * GAP_S < item.tpot.p50 < GAP_S + 0.04
    body = local.last_body()
    assert (body["max_tokens"], body["min_tokens"], body["ignore_eos"]) == (9, 9, True)
    assert "model" not in body


def test_whole_answers_of_an_endpoint(local: Local, tmp_path: Path) -> None:
    run = straight(local, tmp_path, "lmi", "--concurrency", "1", "--requests", "2", "--no-stream")
    assert run.summaries[0].succeeded == 2
    assert local.last_call().operation == "InvokeEndpoint"


def test_inference_component_and_variant_are_named(local: Local, tmp_path: Path) -> None:
    options = ("--concurrency", "1", "--requests", "2", "--inference-component", "part", "--variant", "blue")
    run = straight(local, tmp_path, "shared", *options, "--api", "completions")
    assert run.summaries[0].succeeded == 2
    assert (run.plan.target.inference_component, run.plan.target.variant) == ("part", "blue")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param(faults.Throttle(), "http_400:ThrottlingException", id="throttled"),
        pytest.param(faults.ServiceUnavailable(), "http_503:ServiceUnavailable", id="unavailable"),
        pytest.param(faults.Close(after_frames=2), "stream_cut", id="closed"),
        pytest.param(faults.Reset(after_frames=2), "stream_cut", id="reset"),
        pytest.param(faults.CrcFlipped(frame=2), "malformed_event_stream", id="damaged"),
        pytest.param(faults.ModelStreamError(after_frames=2), "stream_error:ModelStreamError", id="failed inside"),
        pytest.param(faults.ContainerGone(after_chunks=2), "stream_error:ModelStreamError", id="container gone"),
    ],
)
def test_faults_of_sagemaker_have_names(local: Local, tmp_path: Path, fault: Fault, error: str) -> None:
    local.add_fault(fault)
    options = ("--concurrency", "1", "--requests", "3", "--no-ask-first", "--output-tokens", "8")
    run = straight(local, tmp_path, "lmi", *options)
    assert (run.summaries[0].succeeded, run.summaries[0].errors) == (2, {error: 1})


def test_wrong_credentials_end_the_run_with_what_aws_says(local: Local) -> None:
    where = ("--endpoint", "lmi", "--region", "us-east-1", "--runtime-url", local.url, "--concurrency", "1")
    result = bench("run", *where, code=1, AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLF", AWS_SECRET_ACCESS_KEY="x" * 40)
    assert "the first call failed: http_403:UnrecognizedClientException" in result.output


def test_missing_credentials_are_told() -> None:
    result = bench("run", "--endpoint", "e", "--region", "us-east-1", "--concurrency", "1", code=1)
    assert "no AWS credentials were found" in result.output


def test_a_role_that_may_not_be_assumed_is_told(tmp_path: Path) -> None:
    profile = tmp_path / "config"
    profile.write_text(
        "[profile p]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = s\n"
        "[profile s]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = secret\n"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), _Denies) as sts:
        threading.Thread(target=sts.serve_forever).start()
        environment = {
            "AWS_CONFIG_FILE": str(profile),
            "AWS_PROFILE": "p",
            "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{sts.server_address[1]}",
        }
        where = ("--endpoint", "e", "--region", "us-east-1", "--concurrency", "1")
        result = bench("run", *where, code=1, **environment)
        sts.shutdown()
    assert "Error: AWS credentials: An error occurred (AccessDenied)" in result.output


class _Denies(BaseHTTPRequestHandler):
    """STS for somebody who may not assume the role."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        self.send_response(403)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests look at what the command prints."""


@pytest.mark.parametrize(
    ("region", "origin"),
    [
        ("eu-central-1", "https://runtime.sagemaker.eu-central-1.amazonaws.com"),
        ("cn-north-1", "https://runtime.sagemaker.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_a_region_has_its_url(region: str, origin: str) -> None:
    assert runtime_origin(region) == origin


def test_the_gateway_is_measured_as_any_server(local: Local, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    with running_gateway(config(local.url)) as gateway:
        where = ("--url", gateway.base_url, "--model", "vllm", "--api-key-env", "GATEWAY_KEY")
        options = ("--rate", "20", "--requests", "6", "--images", "1", "--image-size", "40x30", "--json", str(file))
        bench("run", *where, *QUICK, "--output-tokens", "6", *options, GATEWAY_KEY=KEY)
    (item,) = runfile.read(file).summaries
    assert (item.succeeded, item.output_tokens, item.errors) == (6, 6, {})
    url = local.last_body()["messages"][0]["content"][1]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
