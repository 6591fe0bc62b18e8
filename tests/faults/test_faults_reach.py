"""What callers try to reach past the model they may use: routes, hosts, files, other calls, the engine's memory."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.talk import DIALECTS, answer_of, events_of
from tests.faults.wire import CHAT, COMPLETIONS, chat, prompt_of, request
from tests.faults.world import ALLOWED_HOST, UPSTREAM_HEADERS, World

BOTH = pytest.mark.parametrize("dialect", DIALECTS)
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
SURFACES = pytest.mark.parametrize("path", [CHAT, COMPLETIONS], ids=["chat", "completions"])


# Fields and headers that route

ROUTING = ["api_base", "base_url", "api_key", "api_type", "api_version", "endpoint", "endpoint_name", "endpoint_url",
           "url", "host", "region", "region_name", "aws_access_key_id", "aws_secret_access_key", "aws_session_token",
           "aws_region_name", "aws_role_name", "custom_llm_provider", "custom_attributes", "target_model",
           "target_variant", "target_container_hostname", "inference_component", "inference_component_name",
           "inference_id", "session_id", "role_arn", "extra_headers", "extra_body", "extra_query", "headers",
           "requestType", "inputs", "parameters", "adapters", "adapter", "lora_request", "lora_name",
           "lora_path"]  # fmt: skip


@SURFACES
@BOTH
@pytest.mark.parametrize("field", ROUTING)
def test_s15_fields_that_route_are_refused(world: World, dialect: str, path: str, field: str) -> None:
    for value in ("http://127.0.0.1:1", {"x-amzn-sagemaker-target-model": "evil"}, ["evil"]):
        answer = world.ask({"model": dialect, field: value, **prompt_of(path, "hello")}, path=path)
        assert (answer.status, answer.code, answer.error["param"]) == (400, "parameter_not_allowed", field)
    assert world.calls() == []


AMAZON = {
    "X-Amzn-SageMaker-Custom-Attributes": "route=other",
    "X-Amzn-SageMaker-Target-Model": "evil.tar.gz",
    "X-Amzn-SageMaker-Target-Variant": "evil",
    "X-Amzn-SageMaker-Target-Container-Hostname": "evil",
    "X-Amzn-SageMaker-Inference-Id": "evil",
    "X-Amzn-SageMaker-Inference-Component": "evil",
    "X-Amzn-SageMaker-Enable-Explanations": "evil",
    "X-Amzn-SageMaker-Session-Id": "evil",
    "X-Amzn-SageMaker-Prefix-Aware-Id": "evil",
    "X-Amzn-SageMaker-Accept": "text/evil",
    "X-Amz-Security-Token": "evil",
    "X-Amz-Date": "20200101T000000Z",
    "X-Amz-Content-Sha256": "evil",
    "X-Amz-Target": "evil",
    "Accept": "text/evil",
    "X-Forwarded-Host": "evil.test",
    "X-Original-URL": "/evil",
    "X-HTTP-Method-Override": "evil",
    "Forwarded": "host=evil.test",
    "Cookie": "evil=1",
}


@BOTH
@STREAMS
def test_s16_no_header_of_a_caller_reaches_sagemaker(world: World, dialect: str, stream: bool) -> None:
    assert world.ask(chat(dialect, stream=stream), headers=AMAZON).status == 200
    (call,) = world.calls()
    assert {name for name, _ in call.headers} <= UPSTREAM_HEADERS
    assert "evil" not in repr(call.headers)
    assert call.verified


# URLs that a container would fetch


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """A web server that nobody should ever call."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.setblocking(False)
        yield listener


SSRF = [
    "http://127.0.0.1:{port}/a.png",
    "https://127.0.0.1:{port}/a.png",
    "HTTP://127.0.0.1:{port}/a.png",
    " http://127.0.0.1:{port}/a.png",
    "\thttp://127.0.0.1:{port}/a.png",
    "ht\ntp://127.0.0.1:{port}/a.png",
    "http:127.0.0.1:{port}",
    "http:/127.0.0.1:{port}",
    "http:\\\\127.0.0.1:{port}\\a.png",
    "//127.0.0.1:{port}/a.png",
    "http://localhost:{port}/a.png",
    "http://LOCALHOST.:{port}/a.png",
    "http://0.0.0.0:{port}/",
    "http://0:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "https://2130706433/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[0:0:0:0:0:ffff:7f00:1]:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://metadata.google.internal/",
    "http://user@127.0.0.1:{port}/",
    "http://images.example.com@127.0.0.1:{port}/",
    "https://images.example.com@127.0.0.1:{port}/",
    "https://images.example.com:443@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}\\@images.example.com/",
    "https://images.example.com\\@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}#@images.example.com/",
    "https://127.0.0.1:{port}?@images.example.com/",
    "https://127.0.0.1:{port}/images.example.com",
    "https://images.example.com:{port}/",
    "https://images.example.com.127.0.0.1.nip.io:{port}/",
    "https://images.example.com.evil.test/",
    "https://evil-images.example.com/",
    "https://images.example.com%2eevil.test/",
    "https://images.example.com\n.evil.test/",
    "https://images.example.com\x00.evil.test/",
    "https://xn--images.example.com/",
    "http://images.example.com/a.png",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "FILE:/etc/passwd",
    "/etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_GET",
    "s3://bucket/key",
    "javascript:alert(1)",
    "blob:http://127.0.0.1:{port}/x",
    "view-source:http://127.0.0.1:{port}/",
    "data:text/html;base64,PHNjcmlwdD4=",
    "data:image/svg+xml;base64,PHN2Zz4=",
    "data:image/png,http://127.0.0.1:{port}/",
    "data:image/png;base64,http://127.0.0.1:{port}/",
    "DATA:image/png;base64,aHR0cDovLzEyNy4wLjAuMQ==",
    "",
]
CARRIERS: dict[str, Any] = {
    "image_url": lambda url: {"type": "image_url", "image_url": {"url": url}},
    "image_url as a text": lambda url: {"type": "image_url", "image_url": url},
    "input_image": lambda url: {"type": "input_image", "image_url": url},
    "video_url": lambda url: {"type": "video_url", "video_url": {"url": url}},
    "audio_url": lambda url: {"type": "audio_url", "audio_url": {"url": url}},
    "input_audio": lambda url: {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
    "no type": lambda url: {"image_url": {"url": url}},
    "text with an image": lambda url: {"type": "text", "text": "look", "image_url": {"url": url}},
    "image with a file": lambda url: {"type": "image_url", "image_url": {"url": url}, "file": url},
}


@BOTH
@pytest.mark.parametrize("hosts", ["", "-hosts", "-fetch"], ids=["no URLs", "one host passed", "one host fetched"])
@pytest.mark.parametrize("carrier", [pytest.param(carrier, id=name) for name, carrier in CARRIERS.items()])
def test_s20_no_url_makes_anybody_call_an_address_inside(
    world: World, listener: socket.socket, dialect: str, hosts: str, carrier: Any
) -> None:
    port = listener.getsockname()[1]
    with world.caller() as caller:
        for url in SSRF:
            part = carrier(url.format(port=port))
            for role in ("user", "tool"):
                message = {"role": role, "content": [{"type": "text", "text": "look"}, part]}
                body = {"model": f"{dialect}{hosts}", "messages": [message], "max_tokens": 10}
                caller.send(request("POST", CHAT, body))
                answer = caller.answer()
                assert answer.status == 400, url
                assert answer.code in ("invalid_value", "invalid_type", "missing_required_parameter"), url
    assert world.calls() == []
    with pytest.raises(BlockingIOError):
        listener.accept()


@BOTH
def test_s20_an_allowed_host_passes_just_as_it_was_checked(world: World, dialect: str) -> None:
    world.fault(answer_of(dialect, ["seen"]))
    url = f"https://{ALLOWED_HOST.upper()}:443/a%20b.png?x=/../y#z"
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    answer = world.ask({"model": f"{dialect}-hosts", "messages": [message], "stream": True})
    assert answer.events == events_of(f"{dialect}-hosts", ["seen"])
    (call,) = world.calls()
    assert url.encode() in call.body


# Embeddings


@SURFACES
@BOTH
@pytest.mark.parametrize("field", ["prompt_embeds", "image_embeds", "audio_embeds", "input_embeds", "any_embeds"])
def test_s25_embeddings_are_refused(world: World, dialect: str, path: str, field: str) -> None:
    for value in ("gAR9lC4=", ["gAR9lC4="], {"a": "gAR9lC4="}):
        answer = world.ask({"model": dialect, field: value, **prompt_of(path, "hello")}, path=path)
        assert (answer.status, answer.code, answer.error["param"]) == (400, "parameter_not_allowed", field)
    assert world.calls() == []


@BOTH
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_embeds", "image_embeds": "gAR9lC4="},
        {"type": "image_embeds", "image_embeds": {"pixel_values": "gAR9lC4="}},
        {"type": "audio_embeds", "audio_embeds": "gAR9lC4="},
        {"type": "prompt_embeds", "data": "gAR9lC4="},
        {"type": "text", "text": "look", "image_embeds": "gAR9lC4="},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}, "image_embeds": "gAR9lC4="},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "image_embeds": "gAR9lC4="}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}, "uuid": "someone's"},
    ],
)
def test_s25_embeddings_are_refused_in_messages_too(world: World, dialect: str, part: dict[str, Any]) -> None:
    body = {"model": dialect, "messages": [{"role": "user", "content": [part]}]}
    answer = world.ask(body)
    assert (answer.status, answer.code) == (400, "parameter_not_allowed")
    assert world.calls() == []


# Routes

VLLM_ROUTES = [
    "/invocations", "/ping", "/detokenize", "/pause", "/resume", "/is_paused", "/sleep", "/wake_up",
    "/is_sleeping", "/collective_rpc", "/reset_prefix_cache", "/abort_requests", "/server_info", "/version",
    "/load", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/embeddings", "/v1/responses",
    "/v1/messages", "/v1/score", "/v1/rerank", "/v1/audio/transcriptions", "/pooling", "/classify", "/score",
    "/rerank", "/start_profile", "/stop_profile", "/inference/v1/generate", "/v1/chat/completions/render",
    "/predictions/model", "/models", "/management", "/endpoints/vllm/invocations",
]  # fmt: skip
SPELLINGS = [
    "{}",
    "/{}",
    "{}/",
    "/v1/..{}",
    "/v1/chat/completions/../../..{}",
    "{}?x=1",
    "{};x",
    "http://gateway.test{}",
]


@pytest.mark.parametrize("route", VLLM_ROUTES)
def test_s34_the_containers_own_routes_are_not_served(world: World, route: str) -> None:
    spelled = [spelling.format(route) for spelling in SPELLINGS]
    spelled += [route.replace("/", "/%2e/", 1), "/%2f" + route[1:], route.upper(), f"/.{route}"]
    with world.caller() as caller:
        for target in spelled:
            for method in ("GET", "POST"):
                caller.send(request(method, target, chat("vllm")))
                answer = caller.answer()
                assert (answer.status, answer.code) == (404, "route_not_found"), (method, target)
    assert world.calls() == []


@pytest.mark.parametrize("path", ["/models/vllm/tokenize", "/models/vllm/chat_tokenize"])
def test_s34_a_tokenizer_is_not_served_unless_the_configuration_says_so(world: World, path: str) -> None:
    for body in ({"inputs": "hello"}, {"prompt": "hello"}, chat("vllm"), {"tokens": [1]}):
        with world.caller() as caller:
            caller.send(request("POST", path, body))
            answer = caller.answer()
            kinds = ("validation",) if path.endswith("/tokenize") and "inputs" not in body else ("route_not_found",)
            assert answer.json["error_type"] in kinds, answer.json
            assert answer.status in (404, 422)
    assert world.calls() == []
