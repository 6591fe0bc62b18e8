"""vLLM's `/tokenize` and `/detokenize`: the tokens of a prompt or of a chat, and back.

The vocabulary is spelled as byte-level ones are, like that of the models the engine's chats are written for.
https://github.com/vllm-project/vllm: vllm/entrypoints/serve/tokenize/{protocol,serving}.py;
https://github.com/openai/gpt-2: src/encoder.py (bytes_to_unicode)
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from deploy.local.engine import jsontext, tokens
from deploy.local.engine.answering import Answerer
from deploy.local.engine.bodies import read_chat
from deploy.local.engine.refusal import bad_value

TOKENIZE_ROUTE, DETOKENIZE_ROUTE = "/tokenize", "/detokenize"


class TokenizeCompletionRequest(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    prompt: str
    add_special_tokens: bool = True
    """Changes nothing: the engine's tokenizer adds none, as Qwen's does not."""
    return_token_strs: bool | None = False


class DetokenizeRequest(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0)]]


def tokenize(data: Any, answerer: Answerer) -> bytes:
    """Return the reply to `/tokenize`.

    Raises:
        ValidationError: the body is none of the two requests.
        Refusal: there is no such model, or the chat cannot be rendered.
    """
    if isinstance(data, dict) and "messages" in data:
        ids = answerer.chat_tokens(read_chat(data, answerer.dialect))
        spelled = data.get("return_token_strs") is True
    else:
        body = TokenizeCompletionRequest.model_validate(data)
        answerer.model_named(body.model)
        ids = tokens.encode(body.prompt, markup=True)
        spelled = bool(body.return_token_strs)
    reply: dict[str, Any] = {"count": len(ids), "max_model_len": answerer.options.context_length, "tokens": ids}
    if answerer.dialect.since(0, 9, 1):
        reply["token_strs"] = [spell(token) for token in ids] if spelled else None
    return jsontext.value(reply)


def detokenize(data: Any, answerer: Answerer) -> bytes:
    """Return the reply to `/detokenize`; see `tokenize`."""
    body = DetokenizeRequest.model_validate(data)
    answerer.model_named(body.model)
    unknown = max(body.tokens, default=0)
    if unknown >= tokens.VOCABULARY_SIZE:
        raise bad_value(f"Token id {unknown} is out of vocabulary", "tokens", unknown, named=True)
    return jsontext.value({"prompt": tokens.decode(body.tokens, invisible=True)})


def spell(token: int) -> str:
    """Return a token as its vocabulary has it: markup as it is, of everything else each byte as one letter."""
    raw = tokens.raw_bytes(token)
    if tokens.FIRST_SPECIAL <= token < tokens.FIRST_PIECE:
        return raw.decode()
    return "".join(_LETTERS[byte] for byte in raw)


def _letters() -> list[str]:
    printing = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printing else chr(next(others)) for byte in range(256)]


_LETTERS = _letters()
