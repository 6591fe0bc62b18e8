"""`lmi-gateway call`: one chat through the gateway's own way to SageMaker, without a server in front of it.

The configuration, lanes, adapters, credentials and connections are those that `serve` would use; there are no keys,
limits or retries, so that what is seen is the deployment.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from gateway.cli_parts import Failure, config_option, loaded_config

if TYPE_CHECKING:
    from adapters.base import StreamDecoder
    from gateway.config.load import Config
    from gateway.errors import GatewayError
    from gateway.sagemaker.errors import ContainerError
    from gateway.sagemaker.transport import Stream

CUT_SHORT = "the stream ended before its answer was complete"


@click.command()
@config_option
@click.option("--model", metavar="NAME", help="The model to call, or an alias of it.  [default: the only one]")
@click.option("--max-tokens", type=click.IntRange(1), default=64, show_default=True, help="Longest answer, in tokens.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1), default=120, show_default=True, help="Seconds for the call."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("prompt")
def call(config: Path | None, model: str | None, max_tokens: int, timeout_s: float, as_json: bool, prompt: str) -> None:
    """Make one chat call as the gateway would, and print the answer, its first token's time and who gave it."""
    loaded = loaded_config(config)
    asked = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, "stream": True}
    try:
        answer = asyncio.run(asyncio.wait_for(_ask(loaded, model, asked), timeout_s))
    except TimeoutError:
        raise Failure(f"no answer within {timeout_s:g} seconds") from None
    if as_json:
        click.echo(json.dumps({"ok": True} | answer.told()))
        return
    click.echo(answer.text or "(an answer without text)")
    first = "no token" if answer.first_token_s is None else f"first token after {answer.first_token_s:.3f} s"
    click.echo(f"{first}, {answer.seconds:.3f} s in all, from {answer.deployment}", err=True)


@dataclass(slots=True)
class _Answer:
    text: str
    first_token_s: float | None
    seconds: float
    deployment: str
    finish_reason: str | None

    def told(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "first_token_s": self.first_token_s,
            "seconds": self.seconds,
            "deployment": self.deployment,
            "finish_reason": self.finish_reason,
        }


async def _ask(config: Config, name: str | None, asked: dict[str, Any]) -> _Answer:
    # Imported late: the other commands need neither the way to AWS nor the adapters.
    from adapters.base import Surface
    from adapters.openai.request import BadRequest, check, read
    from gateway.app import Upstream, default_model
    from gateway.auth.principal import Principal
    from gateway.dispatch import Dispatcher
    from gateway.errors import GatewayError
    from gateway.routing.attempts import RetryBudget
    from gateway.telemetry.events import CallRecord
    from gateway.telemetry.prometheus import PrometheusTelemetry

    name = name or default_model(config)
    if name is None:
        raise Failure(f"name one of the models with --model: {', '.join(model.name for model in config.models)}")
    telemetry = PrometheusTelemetry()
    upstream = Upstream(config, telemetry)
    await upstream.credentials.start()
    record = CallRecord("chat", "lmi-gateway-call", monotonic())
    answering = _Answering()
    try:
        if problems := upstream.problems():
            raise Failure("; ".join(problems))
        model = upstream.catalog.find(name, Principal("lmi-gateway-call", None))
        request = check(read(Surface.CHAT, json.dumps(asked | {"model": name}).encode()), model.policy)
        # No budget: a second attempt would hide what the first one met.
        await Dispatcher(RetryBudget(), telemetry).stream(model, request, record, answering)
        await answering.over
    except (GatewayError, BadRequest) as error:
        raise Failure(_told(error, record.lane)) from None
    finally:
        answering.detach()
        await upstream.credentials.stop()
        upstream.origins.close()
    ended = monotonic()
    first = None if answering.first_token_at is None else answering.first_token_at - record.began
    return _Answer("".join(answering.texts), first, ended - record.began, record.lane, answering.finish_reason)


def _told(error: Exception, lane: str) -> str:
    detail = getattr(error, "detail", None)
    where = f" (from {lane})" if lane else ""
    return f"{getattr(error, 'code', 'invalid_value')}: {error}{where}" + (f"\n{detail}" if detail else "")


@dataclass(slots=True)
class _Answering:
    """Gathers the events that a caller of the stream would have received."""

    texts: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    first_token_at: float | None = None
    over: asyncio.Future[None] = field(init=False)
    _first: asyncio.Future[None] | None = None
    _decoder: StreamDecoder | None = None
    _stream: Stream | None = None

    def __post_init__(self) -> None:
        self.over = asyncio.get_running_loop().create_future()

    def expect(self, decoder: StreamDecoder) -> asyncio.Future[None]:
        self._decoder = decoder
        self._first = self.over.get_loop().create_future()
        return self._first

    def attach(self, stream: Stream) -> None:
        self._stream = stream

    def detach(self) -> None:
        self._decoder = None
        if self._stream is not None:
            self._stream.abort()
            self._stream = None

    def on_payload(self, data: bytes) -> None:
        if self._decoder is not None:
            self._take(self._decoder, self._decoder.feed(data))

    def on_end(self) -> None:
        decoder, self._stream = self._decoder, None
        if decoder is None or self.over.done():
            return
        if not decoder.ended:
            self._take(decoder, decoder.end())
        if not self.over.done():
            self._fail(_protocol(CUT_SHORT))

    def on_failure(self, error: GatewayError | ContainerError) -> None:
        from gateway.dispatch import NOTHING_MISSING

        self._stream = None
        if isinstance(error, NOTHING_MISSING) and self._decoder is not None and self._decoder.complete:
            self.on_end()
        else:
            self._fail(error)

    def _take(self, decoder: StreamDecoder, events: list[bytes]) -> None:
        from gateway.faults import from_container

        for event in events:
            self._read(event)
        if decoder.fault is not None:
            self._fail(from_container(decoder.fault))
        elif decoder.malformed is not None:
            self._fail(_protocol(decoder.malformed))
        elif events:
            if self._first is not None and not self._first.done():
                self._first.set_result(None)
            if decoder.ended and not self.over.done():
                self.over.set_result(None)

    def _read(self, event: bytes) -> None:
        data = event.strip().removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        for choice in json.loads(data).get("choices", ()):
            delta = choice.get("delta") or {}
            text = delta.get("content") or ""
            if self.first_token_at is None and (text or delta.get("reasoning") or delta.get("tool_calls")):
                self.first_token_at = monotonic()
            self.texts.append(text)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def _fail(self, error: GatewayError | ContainerError) -> None:
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)
        elif not self.over.done():
            self.over.set_exception(error)


def _protocol(detail: str) -> GatewayError:
    from gateway.errors import UpstreamProtocol
    from gateway.sagemaker.errors import fault

    return fault(UpstreamProtocol, detail)
