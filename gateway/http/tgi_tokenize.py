"""TGI's `POST /tokenize` and `/chat_tokenize`: which tokens a text, or the prompt of a chat, consists of.

Of the containers behind SageMaker only AWS' image of the vLLM container can be asked, at deployments that are
configured as `tokenizes`; a model without one has no such URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from adapters.base import Call, Surface, Whole
from adapters.errors import MalformedReply
from adapters.openai import request as openai
from adapters.tgi import request as tgi
from adapters.tgi import tokenizer as tokens
from adapters.tgi.refusal import TgiRefusal
from gateway.auth.principal import Principal
from gateway.dispatch import Dispatcher
from gateway.errors import RouteNotFound, UpstreamProtocol
from gateway.http.face import JSON_HEADERS
from gateway.http.tgi import ModelChoice, TgiWords, timing
from gateway.http.tgi_errors import worded
from gateway.routing.catalog import ServedModel
from gateway.sagemaker.errors import fault
from gateway.telemetry.events import CallRecord

TOKENIZE = "tokenize"


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """The ways to a model's tokenizer."""

    tokenize: ServedModel
    """The model, by the lanes that turn text into tokens."""
    detokenize: ServedModel
    """The same back."""


class _TokensFace(TgiWords):
    surface = TOKENIZE

    def __init__(self, choice: ModelChoice, tokenizers: Mapping[str, Tokenizer]) -> None:
        """`tokenizers` has those of the models, by public name, that have one."""
        self._choice = choice
        self._tokenizers = tokenizers

    def whole(self, call: Call, whole: Whole, record: CallRecord) -> tuple[bytes, bytes]:
        return JSON_HEADERS + timing(record), whole.body

    def _model(self, name: str | None, adapter_id: str | None, principal: Principal, record: CallRecord) -> ServedModel:
        model = self._choice.find(name, adapter_id, principal)
        record.model = model.name
        if model.name not in self._tokenizers:
            raise RouteNotFound("The tokenizer of this model cannot be reached.")
        return model


class TextTokensFace(_TokensFace):
    """`/tokenize`: the body is that of `/generate`, of which only `inputs` matters."""

    def take(self, body: bytes, principal: Principal, name: str | None, record: CallRecord) -> tuple[ServedModel, Call]:
        try:
            draft = tgi.read(body, stream=False)
        except TgiRefusal as error:
            raise worded(error) from error
        model = self._model(name, draft.adapter_id, principal, record)
        return model, Call(
            surface=Surface.GENERATE,
            model=model.name,
            raw={},
            values={"inputs": draft.inputs},
            stream=False,
            include_usage=False,
            choices=1,
            max_tokens=None,
        )


class ChatTokensFace(_TokensFace):
    """`/chat_tokenize`: the body is that of `/v1/chat/completions`."""

    def take(self, body: bytes, principal: Principal, name: str | None, record: CallRecord) -> tuple[ServedModel, Call]:
        model = self._model(name, None, principal, record)
        call = openai.check(openai.read(Surface.CHAT, body, model.name), model.policy)
        return model, replace(call, stream=False)


class Tokenizing:
    """Asks the tokenizers."""

    def __init__(self, dispatcher: Dispatcher, tokenizers: Mapping[str, Tokenizer]) -> None:
        self._dispatcher = dispatcher
        self._tokenizers = tokenizers

    async def complete(self, model: ServedModel, call: Call, record: CallRecord) -> Whole:
        """Return TGI's answer.

        Raises:
            GatewayError: the container refused or failed.
        """
        tokenizer, ask = self._tokenizers[model.name], self._dispatcher.ask
        chat = call.surface is Surface.CHAT
        question = tokens.chat_question(call) if chat else tokens.text_question(call.values["inputs"])
        try:
            found = tokens.read_tokens(await ask(tokenizer.tokenize, question, record))
            if not chat:
                return Whole(tokens.tokenize_reply(call.values["inputs"], found), usage=None)
            text = tokens.read_text(await ask(tokenizer.detokenize, tokens.ids_question(found.tokens), record))
        except MalformedReply as error:
            raise fault(UpstreamProtocol, f"malformed reply: {error}") from error
        return Whole(tokens.chat_tokenize_reply(text, found), usage=None)
