"""The face of Text Generation Inference: `POST /generate`, `/generate_stream`, and `/`, which does either.

A TGI server serves one model, so its calls name none. Here the URL may (`/models/{name}/generate`), or `adapter_id`
among the parameters; what is left is the default model.
https://github.com/huggingface/text-generation-inference: router/src/server.rs
"""

from __future__ import annotations

import contextlib
from random import getrandbits

from adapters.base import Call, Surface, Whole
from adapters.tgi.request import TgiLimits, TgiRefusal, check, read
from gateway.auth.principal import Principal
from gateway.config.tgi import Tgi
from gateway.errors import GatewayError, MissingParameter, ModelNotFound
from gateway.http.errors import headers_of
from gateway.http.face import JSON_HEADERS, STREAM_HEADERS, server_timing, times_s
from gateway.http.protocol import header_lines
from gateway.http.tgi_errors import body_of, event_of, worded
from gateway.routing.catalog import Catalog, ServedModel
from gateway.telemetry.events import CallRecord

SEED_BITS = 62


class ModelChoice:
    """Finds the model of a call that need not name one."""

    def __init__(self, catalog: Catalog, default: str | None) -> None:
        """`default` is the public name of the model that calls without a model mean, if there is one."""
        self._catalog = catalog
        self._default = default

    def find(self, name: str | None, adapter_id: str | None, principal: Principal) -> ServedModel:
        """Return the model that the URL names, else the one that `adapter_id` does, else the default one.

        An `adapter_id` that is no model's name is looked for among the adapters of the default model: `base:adapter`.
        Beside a name in the URL it can only be an adapter of that model.

        Raises:
            ModelNotFound: there is none of that name for this key.
            MissingParameter: none is named, and there is no default model for this key.
        """
        if name is not None:
            if adapter_id is None:
                return self._catalog.find(name, principal)
            return self._catalog.find_adapter(name, adapter_id, principal)
        if adapter_id is None:
            return self._default_for(principal)
        try:
            return self._catalog.find(adapter_id, principal)
        except ModelNotFound:
            if self._default is not None:
                with contextlib.suppress(ModelNotFound):
                    return self._catalog.find_adapter(self._default, adapter_id, principal)
            raise  # with the name that the caller wrote

    def _default_for(self, principal: Principal) -> ServedModel:
        if self._default is not None:
            with contextlib.suppress(ModelNotFound):  # which would tell the name to a key that may not know it
                return self._catalog.find(self._default, principal)
        raise MissingParameter(
            "no model is named, and there is no default model for this key: name one in the URL, such as "
            "/models/YOUR_MODEL/generate, or as `adapter_id` among the parameters.",
            param="parameters.adapter_id",
        )


class TgiWords:
    """What TGI's routes have in common."""

    def begin(self, call: Call, record: CallRecord) -> bytes:
        return STREAM_HEADERS + timing(record)

    def refusal(self, error: GatewayError, record: CallRecord) -> tuple[int, bytes, bytes]:
        status, body = body_of(error)
        return status, JSON_HEADERS + header_lines(headers_of(error)) + timing(record), body

    def event(self, error: GatewayError) -> bytes:
        return event_of(error)


class TgiFace(TgiWords):
    """One of TGI's generating routes."""

    surface: str = Surface.GENERATE

    def __init__(self, choice: ModelChoice, config: Tgi, *, stream: bool | None) -> None:
        """`stream` is whether the route streams; None is for `/`: there the body says so, and answers are in a list."""
        self._choice = choice
        self._stream = stream
        self._limits = TgiLimits(
            max_best_of=config.max_best_of,
            max_stop_sequences=config.max_stop_sequences,
            max_top_n_tokens=config.max_top_n_tokens,
            default_return_full_text=config.return_full_text,
        )

    def take(self, body: bytes, principal: Principal, name: str | None, record: CallRecord) -> tuple[ServedModel, Call]:
        try:
            draft = read(body, self._stream)
            model = self._choice.find(name, draft.adapter_id, principal)
            record.model = model.name
            return model, check(
                draft, model=model.name, policy=model.policy, limits=self._limits, drawn_seed=getrandbits(SEED_BITS)
            )
        except TgiRefusal as error:
            raise worded(error) from error

    def whole(self, call: Call, whole: Whole, record: CallRecord) -> tuple[bytes, bytes]:
        total_s, upstream_s = times_s(record)
        lines = b"%bx-compute-time: %.9f\r\nx-total-time: %d\r\nx-validation-time: %d\r\nx-queue-time: 0\r\n" % (
            JSON_HEADERS + timing(record) + _computed(call),
            total_s,
            total_s * 1000,
            (total_s - upstream_s) * 1000,
        )
        lines += b"x-inference-time: %d\r\n" % (upstream_s * 1000)
        usage = whole.usage
        if usage is not None:
            lines += b"x-time-per-token: %d\r\nx-prompt-tokens: %d\r\nx-generated-tokens: %d\r\n" % (
                upstream_s * 1000 / max(usage.completion_tokens, 1),
                usage.prompt_tokens,
                usage.completion_tokens,
            )
        return lines, b"[%b]" % whole.body if self._stream is None else whole.body

    def begin(self, call: Call, record: CallRecord) -> bytes:
        return super().begin(call, record) + _computed(call)


def timing(record: CallRecord) -> bytes:
    """Return the header lines that every answer of these routes has."""
    total_s, upstream_s = times_s(record)
    return b"%bx-request-id: %b\r\n%b" % (
        record.limit_headers,
        record.request_id.encode(),
        server_timing(record, total_s, upstream_s),
    )


def _computed(call: Call) -> bytes:
    return b"x-compute-type: gpu+optimized\r\nx-compute-characters: %d\r\n" % len(call.values["inputs"])
