"""The replies of /generate, /generate_stream and /, in TGI's own schema.

https://github.com/huggingface/text-generation-inference: router/src/server.rs (generate_internal,
generate_stream_internal), router/src/lib.rs
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from deploy.local.engine import jsontext
from deploy.local.engine.job import Record
from deploy.local.engine.tgi.answers import Answer, prefill, top_tokens
from deploy.local.engine.tgi.errors import SHARD_DIED, TgiError, failed
from deploy.local.engine.tgi.infer import Generate
from deploy.local.engine.tgi.release import Release

Json = dict[str, Any]


def error_record(error: TgiError) -> bytes:
    """Return an error as the classic schema has it."""
    return jsontext.value({"error": error.error, "error_type": error.kind})


@dataclass(slots=True)
class GenerateJob:
    """An answered generate request, or the error that its stream begins and ends with."""

    request: Generate
    release: Release
    shows_prefill: bool
    """Whether the server was started so that it knows what prompts were worth."""
    streams: bool
    in_list: bool
    """Whether the whole reply is a list of one, as on /."""
    answer: Answer | None = None
    others: list[Answer] = field(default_factory=list)
    error: TgiError | None = None
    ends_with_done: bool = False

    @property
    def fails_after(self) -> int | None:
        """After how many tokens the model server dies, or None if it does not."""
        return None if self.answer is None else self.answer.fails_after

    @property
    def rounds(self) -> int:
        """How many tokens the longest answer has."""
        return max((len(answer.said) for answer in self.answers), default=0)

    @property
    def answers(self) -> list[Answer]:
        """All answers."""
        return [] if self.answer is None else [self.answer, *self.others]

    @property
    def characters(self) -> int:
        """How many characters were sent in."""
        return len(self.request.inputs)

    def whole(self) -> bytes:
        """Return the reply's JSON."""
        answer = self.answers[0]
        reply: Json = {"generated_text": self._text(answer)}
        asked = self.request.parameters
        if asked["details"] or asked["decoder_input_details"]:
            reply["details"] = self._details(answer, self.others or None)
        return jsontext.value([reply] if self.in_list else reply)

    def _text(self, answer: Answer) -> str:
        return self.request.inputs + answer.text if self.request.parameters["return_full_text"] else answer.text

    def _details(self, answer: Answer, others: list[Answer] | None = None) -> Json:
        asked = self.request.parameters
        made: Json = {
            "finish_reason": answer.finish,
            "generated_tokens": len(answer.said),
            "seed": answer.seed,
            "prefill": prefill(answer.prompt) if asked["decoder_input_details"] and self.shows_prefill else [],
            "tokens": [token.json() for token in answer.said],
        }
        if others is not None:
            made["best_of_sequences"] = [
                {"generated_text": self._text(other), **self._details(other)} for other in others
            ]
        if asked["top_n_tokens"]:
            made["top_tokens"] = [top_tokens(answer, place, asked["top_n_tokens"]) for place in range(len(answer.said))]
        return made

    def records(self) -> Iterator[Record]:
        """Give one record for each token, or an error."""
        if self.error is not None:
            yield 0, error_record(self.error)
            return
        answer, asked = self.answers[0], self.request.parameters
        for place, token in enumerate(answer.said):
            if answer.fails_after == place:
                yield 1, error_record(failed(SHARD_DIED))
                return
            frame: Json = {"index": place + 1, "token": token.json()}
            if asked["top_n_tokens"]:
                frame["top_tokens"] = top_tokens(answer, place, asked["top_n_tokens"])
            last = place == len(answer.said) - 1
            frame["generated_text"] = self._text(answer) if last else None
            frame["details"] = stream_details(answer, self.release) if last and asked["details"] else None
            yield 1, jsontext.value(frame)


def stream_details(answer: Answer, release: Release) -> Json:
    """Return what the last record of a stream tells of its answer."""
    made: Json = {"finish_reason": answer.finish, "generated_tokens": len(answer.said), "seed": answer.seed}
    return made | {"input_length": len(answer.prompt)} if release.counts_in_streams else made
