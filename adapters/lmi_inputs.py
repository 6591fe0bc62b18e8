"""The LMI container asked in its own schema of `inputs` and `parameters` (`schema: tgi`), which resembles TGI's.

The handler makes a vLLM completion of it and of the completion something like TGI's reply. It renames a few parameters,
and copies every other by its name into the completion, so vLLM's own work; TGI's that vLLM does not know are lost.
lmi_vllm/request_response_utils.py in engines/python/setup/djl_python of https://github.com/deepjavalibrary/djl-serving.
What is peculiar to it:

- `max_new_tokens` is 30 where it is not said, and `stop_sequences`, though documented, does nothing.
- `top_n_tokens` becomes `n`, of which one choice is told.
- without `do_sample` the answer is sampled, and `do_sample: false` overrides the temperature.
- a whole reply is an object, `finish_reason` in it is vLLM's stop_reason: null unless a stop string ended the answer.
- a stream's `index` is the choice's, and `generated_tokens` one too many. Blank lines end it.
- `return_full_text` with details lists the prompt's tokens among the answer's, so the gateway puts the prompt there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from adapters.base import Assembler, Call, StreamDecoder, Surface, Usage, Whole
from adapters.drift.vllm import translator
from adapters.errors import ContainerFault, MalformedReply, UnsupportedParameter
from adapters.framing.jsonlines import LineSplitter
from adapters.lmi import VLLM_MINOR, Lmi, judge_reply, unglue
from adapters.openai.reply import join_fields
from adapters.tgi.behind_completion import CompletionGatherer, CompletionRelay, Facts, completion
from adapters.tgi.behind_frames import Frame, FrameWire, NewStamp, usage_of
from adapters.tgi.behind_generate import (
    Generation,
    NativeGatherer,
    NativeRelay,
    generate_object,
    read_generation,
    token_fields,
    wants_details,
)
from adapters.tgi.behind_request import check_options, prompt_of
from adapters.tgi.behind_table import DEFAULT_COMPLETION_TOKENS, Fate, Row, is_neutral, refused, sent, unsupported
from adapters.tgi.completion import Plan, plan, rest_of_window, to_completion

_GATEWAY = Row(Fate.GATEWAY)

COMPLETIONS: dict[str, Row] = {
    "model": _GATEWAY,
    "stream": sent("stream"),
    "stream_options": _GATEWAY,
    "echo": _GATEWAY,
    "prompt": sent("inputs"),
    "max_tokens": sent("max_new_tokens"),
    "truncate_prompt_tokens": sent("truncate"),
    "logprobs": sent("details"),
    "n": refused(1, hint="Make a call for each choice."),
    "best_of": refused(1),
    "suffix": refused(""),
    "prompt_logprobs": refused(),
    "logprob_token_ids": refused(),
    "return_token_ids": refused(False),
    "return_tokens_as_token_ids": refused(False),
    "return_token_offsets": refused(False),
    "use_beam_search": refused(False),
    **dict.fromkeys(
        (
            "parameters",
            "details",
            "decoder_input_details",
            "do_sample",
            "ignore_eos_token",
            "max_new_tokens",
            "return_full_text",
            "stop_sequences",
            "top_n_tokens",
            "truncate",
        ),
        refused(hint="It belongs to another API."),
    ),
}
"""Fields of a text completion → parameters; every other keeps its name, and means what it does to vLLM."""

GENERATE: dict[str, Row] = {
    "top_n_tokens": refused(0),
    "best_of": refused(1),
    "details": sent("details"),
    "decoder_input_details": sent("decoder_input_details"),
}
"""Parameters of TGI's own API with a fate of their own. The others become what they do with LMI's other schema."""

_LISTED_BY_DETAILS = frozenset({"logprobs", "return_tokens_as_token_ids", "return_token_ids", "echo"})
"""Fields of a completion that the schema sets itself, if there are details."""

_encode = msgspec.json.Encoder().encode


class LmiInputs:
    """LMI's handler in one version; chats go to it as they do with its other schema."""

    def __init__(
        self,
        version: int,
        *,
        served_model_name: str | None,
        adapter_name: str | None,
        max_event_bytes: int,
        max_reply_bytes: int,
        new_stamp: NewStamp,
    ) -> None:
        self._minor = VLLM_MINOR[version]
        self._translate = translator(self._minor).translate
        self._served = None if served_model_name is None else _encode(served_model_name)
        self._adapter = None if adapter_name is None else _encode(adapter_name)
        self._max_reply_bytes = max_reply_bytes
        self._new_stamp = new_stamp
        self._judge = partial(judge_reply, version)
        self._wire = FrameWire(
            splitter=partial(LineSplitter, max_event_bytes), judge=self._judge, unglue=unglue, tokens_too_many=1
        )
        self._chats = Lmi(
            version,
            served_model_name=served_model_name,
            adapter_name=adapter_name,
            max_event_bytes=max_event_bytes,
            max_reply_bytes=max_reply_bytes,
        )
        self.decode_error = self._chats.decode_error

    def encode(self, call: Call, *, stream: bool) -> bytes:
        if call.surface is Surface.CHAT:
            return self._chats.encode(call, stream=stream)
        if call.surface is Surface.GENERATE:
            inputs, parameters = self._of_generate(call, stream=stream)
        else:
            inputs, parameters = self._of_completion(call)
        parameters["details"] = b"true"
        ordered = {name: parameters[name] for name in sorted(parameters, key=lambda name: (name == "seed", name))}
        fields = {"inputs": inputs, "parameters": join_fields(ordered)}
        if self._served is not None:
            fields["model"] = self._served
        if self._adapter is not None:
            fields["adapters"] = self._adapter
        if stream:
            fields["stream"] = b"true"
        return join_fields(fields)

    def decode_whole(self, call: Call, body: bytes) -> Whole | ContainerFault:
        if call.surface is Surface.CHAT:
            return self._chats.decode_whole(call, body)
        if len(body) > self._max_reply_bytes:
            raise MalformedReply("the reply is too long")
        read = read_generation(body, self._judge)
        if isinstance(read, ContainerFault):
            return read
        generation = read[0]
        if call.surface is Surface.GENERATE:
            usage = usage_of(generation.details, prompt_tokens=_prompt_tokens(generation))
            finish = self._finish(call, generation, streamed=False)
            return Whole(self._object(call, generation, finish), usage)
        if generation.details is not None and generation.details.finish_reason is not None:
            generation.details.finish_reason = "stop"
        return completion(Facts(call, self._new_stamp(), ()), generation)

    def stream_decoder(self, call: Call) -> StreamDecoder:
        if call.surface is Surface.CHAT:
            return self._chats.stream_decoder(call)
        if call.surface is Surface.GENERATE:
            return NativeRelay(call, self._wire, partial(self._mended, plan(call, self._minor, stream=True)))
        return CompletionRelay(call, self._wire, Facts(call, self._new_stamp(), ()))

    def assembler(self, call: Call) -> Assembler:
        if call.surface is Surface.CHAT:
            return self._chats.assembler(call)
        if call.surface is Surface.GENERATE:
            return NativeGatherer(self._wire, self._max_reply_bytes, partial(self._gathered, call))
        return CompletionGatherer(self._wire, self._max_reply_bytes, Facts(call, self._new_stamp(), ()))

    # Requests

    def _of_completion(self, call: Call) -> tuple[bytes, dict[str, bytes]]:
        """Return `inputs` and `parameters` of a text completion."""
        call = self._translate(call)
        check_options(call)
        values = call.values
        parameters: dict[str, bytes] = {}
        for name, value in values.items():
            row = COMPLETIONS.get(name, sent(name))
            if is_neutral(value, row) or row.fate is Fate.GATEWAY or name in ("prompt", "stream", "logprobs"):
                continue
            if row.fate is Fate.REFUSED:
                raise unsupported(name, row.hint)
            parameters[row.becomes] = bytes(call.raw[name])
        if values.get("logprobs"):
            raise UnsupportedParameter(
                "This model's container tells no tokens but those it generated: logprobs must be 0.", "logprobs"
            )
        if values.get("echo") and values.get("logprobs") is not None:
            raise UnsupportedParameter(
                "This model's container tells no log probabilities of the prompt: leave out echo or logprobs.", "echo"
            )
        parameters.setdefault("max_new_tokens", b"%d" % DEFAULT_COMPLETION_TOKENS)
        if call.max_tokens == 0:
            raise UnsupportedParameter("This model's container generates at least one token.", "max_tokens")
        return self._inputs(call), parameters

    def _inputs(self, call: Call) -> bytes:
        """Return the prompt: a text, or token ids."""
        prompt = call.values["prompt"]
        if isinstance(prompt, list) and isinstance(prompt[0], list) and len(prompt) == 1:
            prompt = prompt[0]
        if isinstance(prompt, list) and isinstance(prompt[0], int):
            if call.values.get("echo"):
                raise UnsupportedParameter("This model's container cannot echo a prompt of token ids.", "echo")
            return _encode(prompt)
        return _encode(prompt_of(call))

    def _of_generate(self, call: Call, *, stream: bool) -> tuple[bytes, dict[str, bytes]]:
        """Return `inputs` and `parameters` of a call of TGI's own API."""
        given: dict[str, Any] = call.values["parameters"]
        for name, value in given.items():
            row = GENERATE.get(name)
            if row is not None and row.fate is Fate.REFUSED and not is_neutral(value, row):
                raise unsupported(name)
        wanted = replace(plan(call, self._minor, stream=stream), details=False, prefill=False, top=0)
        fields = to_completion(call, self._minor, wanted).raw
        parameters: dict[str, bytes] = {
            name: bytes(value)
            for name, value in fields.items()
            if name not in _LISTED_BY_DETAILS and name not in ("prompt", "max_tokens")
        }
        parameters["max_new_tokens"] = bytes(fields["max_tokens"])
        if given.get("decoder_input_details") and not stream:
            parameters["decoder_input_details"] = b"true"
        return bytes(call.raw["inputs"]), parameters

    # Replies

    def _mended(self, wanted: Plan, call: Call, frame: Frame, number: int) -> bytes:
        """Return a frame as TGI writes it."""
        details: dict[str, Any] | None = None
        text = frame.generated_text
        if text is not None and frame.details is not None and wants_details(call):
            usage = usage_of(frame.details, self._wire.tokens_too_many) or Usage(0, 0)
            details = {
                "finish_reason": self._finish(call, Generation(text, None), told=frame.details.finish_reason),
                "generated_tokens": usage.completion_tokens,
                "seed": wanted.seed,
                "input_length": usage.prompt_tokens,
            }
        return _encode(
            {
                "index": number,
                "token": token_fields(frame.token),
                "generated_text": None if text is None else wanted.prefix + text,
                "details": details,
            }
        )

    def _gathered(self, call: Call, generation: Generation) -> bytes:
        return self._object(call, generation, self._finish(call, generation))

    def _object(self, call: Call, generation: Generation, finish: str) -> bytes:
        """Return a whole reply as TGI writes it."""
        wanted = plan(call, self._minor, stream=False)
        generation.generated_text = wanted.prefix + generation.generated_text
        if generation.details is not None:
            generation.details.seed = wanted.seed
        return generate_object(call, generation, finish)

    def _finish(
        self, call: Call, generation: Generation, told: str | int | None = None, *, streamed: bool = True
    ) -> str:
        """Return why an answer ended, in TGI's words; streams tell stop or length."""
        details = generation.details
        if details is not None:
            told = details.finish_reason
        if streamed and told == "length":
            return "length"
        if any(generation.generated_text.endswith(stop) for stop in call.values["parameters"].get("stop") or ()):
            return "stop_sequence"
        if not streamed and told is None and details is not None:
            most = call.max_tokens if call.max_tokens is not None else rest_of_window(call, self._minor)
            if details.generated_tokens >= most:
                return "length"
        return "eos_token"


def _prompt_tokens(generation: Generation) -> int:
    """Return how many tokens the prompt has, if they are listed: the first has no log probability, so it is not."""
    details = generation.details
    return len(details.prefill) + 1 if details is not None and details.prefill else 0
