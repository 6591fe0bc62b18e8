"""Whole conversations as files: golden/*.txt, one scenario each.

A file starts with a sentence and the line `container: lmi 27`, optionally `serves: <name>`, `schema: tgi`,
`fetch: stream` for a whole reply gathered from a stream, and `status: 424` for a container's error reply. A call in
TGI's schema also has its `route: /generate`, and may have the model's `window: 4096`. The parts are

    -- client request --      the body a caller sends
    -- refusal --             code, param and message of the error it gets at once; then nothing else follows
                              (in TGI's schema: status, error_type and message)
    -- container request --   the body the container gets, byte for byte
    -- container reply --     its bytes
    -- client reply --        what the caller gets, byte for byte: the events of a stream, or the whole body
    -- fault --               kind, param and message of a container's fault
    -- malformed --           what is wrong with the container's bytes
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.base import Call, Surface, Whole
from adapters.errors import ContainerFault, MalformedReply
from adapters.openai.request import BadRequest, FieldPolicy, check, read
from adapters.registry import make
from adapters.tgi import request as tgi
from tests.adapters.calls import IMAGES, relayed

FILES = sorted((Path(__file__).parent / "golden").glob("*.txt"))
TGI_ROUTES = {"/": None, "/generate": False, "/generate_stream": True}
PARTS = {"client request", "refusal", "container request", "container reply", "client reply", "fault", "malformed"}


@dataclass(frozen=True)
class Case:
    settings: dict[str, str]
    parts: dict[str, str]


def parse(path: Path) -> Case:
    head, *pieces = re.split(r"^-- (.*) --\n", path.read_text(), flags=re.MULTILINE)
    parts = dict(zip(pieces[::2], pieces[1::2], strict=True))
    assert set(parts) <= PARTS, set(parts) - PARTS
    return Case(dict(re.findall(r"^(\w+): (.*)$", head, re.MULTILINE)), parts)


def expected_fault(case: Case) -> tuple[str, str | None, str] | None:
    if "fault" not in case.parts:
        return None
    kind, param, message = case.parts["fault"].rstrip("\n").split(" ", 2)
    return kind, None if param == "-" else param, message


def fields_of(fault: ContainerFault | None) -> tuple[str, str | None, str] | None:
    return None if fault is None else (str(fault.kind), fault.param, fault.message)


def call_of(case: Case) -> Call | str:
    """Return the call, or why it is refused."""
    body = case.parts["client request"].encode()
    route, window = case.settings.get("route"), case.settings.get("window")
    if route is not None:
        policy = FieldPolicy(context_length=None if window is None else int(window))
        try:
            draft = tgi.read(body, TGI_ROUTES[route])
            return tgi.check(draft, model="my-model", policy=policy, limits=tgi.TgiLimits())
        except tgi.TgiRefusal as refused:
            return f"{refused.status} {refused.error_type or '-'} {refused.message}\n"
    surface = Surface.COMPLETIONS if '"prompt"' in case.parts["client request"] else Surface.CHAT
    try:
        return check(read(surface, body), IMAGES)
    except BadRequest as error:
        return f"{error.code} {error.param or '-'} {error.message}\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    case = parse(path)
    container, version = case.settings["container"].split()
    schema = case.settings.get("schema", "openai")
    adapter = make(container, version, served_model_name=case.settings.get("serves"), schema=schema)
    call = call_of(case)
    if isinstance(call, str):
        assert call == case.parts["refusal"]
        return
    assert "refusal" not in case.parts
    stream = call.stream or case.settings.get("fetch") == "stream"
    assert adapter.encode(call, stream=stream) == case.parts["container request"].rstrip("\n").encode()
    reply = case.parts["container reply"].encode()
    client = case.parts.get("client reply", "")

    if "status" in case.settings:
        assert fields_of(adapter.decode_error(int(case.settings["status"]), reply)) == expected_fault(case)
        return
    cuts = [[reply], [reply[at : at + 1] for at in range(len(reply))]]
    cuts += [[reply[:at], reply[at:]] for at in range(1, len(reply))]
    if call.stream:
        for parts in cuts:
            decoder = adapter.stream_decoder(call)
            assert b"".join(relayed(decoder, parts)).decode() == client
            assert fields_of(decoder.fault) == expected_fault(case)
            assert (decoder.malformed or "") == case.parts.get("malformed", "").rstrip("\n")
    elif stream:
        for parts in cuts:
            assembler = adapter.assembler(call)
            for part in parts:
                assembler.feed(part)
            whole = assembler.end()
            assert ("" if whole is None else whole.body.decode()) == client.rstrip("\n")
            assert fields_of(assembler.fault) == expected_fault(case)
            assert (assembler.malformed or "") == case.parts.get("malformed", "").rstrip("\n")
    elif "malformed" in case.parts:
        with pytest.raises(MalformedReply, match=re.escape(case.parts["malformed"].rstrip("\n"))):
            adapter.decode_whole(call, reply)
    else:
        answer = adapter.decode_whole(call, reply)
        if isinstance(answer, Whole):
            assert answer.body.decode() == client.rstrip("\n")
            assert expected_fault(case) is None
        else:
            assert fields_of(answer) == expected_fault(case)


def test_every_golden_file_is_a_case() -> None:
    assert len(FILES) >= 20
    names = {(parse(path).settings["container"].split()[0], parse(path).settings.get("fetch")) for path in FILES}
    assert names >= set(itertools.product(("lmi", "vllm", "tgi"), (None, "stream")))
    for path in FILES:
        for name, text in parse(path).parts.items():
            if name == "container request":
                json.loads(text)
