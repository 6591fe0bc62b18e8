"""From a body to an answer: the checks in vLLM's order, then what is said, token by token.

model → tools → template, pictures, window → sampling → constraint → steps
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from deploy.local.engine import conversation, prose, scripts, tokens
from deploy.local.engine.bodies import ChatCompletionRequest, CompletionRequest, SamplingBody
from deploy.local.engine.chat import ChatJob
from deploy.local.engine.completions import CompletionJob, Prompt, read_prompts
from deploy.local.engine.conversation import Conversation
from deploy.local.engine.deltas import new_id
from deploy.local.engine.dialect import Dialect
from deploy.local.engine.generation import speak
from deploy.local.engine.job import Reply
from deploy.local.engine.options import Options
from deploy.local.engine.refusal import Origin, Refusal, bad_value
from deploy.local.engine.sampling import check_window, settle


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answers the requests of one engine."""

    dialect: Dialect
    options: Options

    def chat(self, body: ChatCompletionRequest, request_id: str | None = None) -> ChatJob:
        """Return the answer to a chat; `request_id` is the front's, which goes before the body's.

        Raises:
            Refusal: see the checks above.
        """
        model = self.model_named(body.model)
        self._check_tools(body)
        try:
            chat = self._rendered(body, model)
        except Refusal as refusal:
            raise self._as_told(refusal) from refusal
        sampling = settle(body, len(chat.ids), self.dialect, self.options.context_length)
        steps = [
            speak(scripts.of_chat(body, chat, sampling, index, self.dialect, self.options), sampling)
            for index in range(body.choices)
        ]
        fails = self._failure(chat.question, max(map(len, steps)))
        return ChatJob(self._reply(body, model, "chatcmpl-", request_id), body, chat.ids, steps, fails)

    def completion(self, body: CompletionRequest, request_id: str | None = None) -> CompletionJob:
        """Return the answer to raw prompts; see `chat`."""
        model = self.model_named(body.model)
        if body.suffix is not None:
            raise self._no_suffix()
        prompts = [self._checked(prompt, body) for prompt in read_prompts(body)]
        if not prompts:
            raise Refusal("please provide at least one prompt")
        steps = []
        for prompt in prompts:
            check_window(body, len(prompt.ids), self.dialect, self.options.context_length)
            sampling = settle(body, len(prompt.ids), self.dialect, self.options.context_length)
            question = conversation.question_of(prompt.text)
            for index in range(body.choices):
                steps.append(speak(scripts.of_completion(body, question, sampling, index), sampling))
        question = conversation.question_of(prompts[0].text)
        fails = self._failure(question, max(map(len, steps)))
        return CompletionJob(self._reply(body, model, "cmpl-", request_id), body, prompts, steps, fails)

    def chat_tokens(self, body: ChatCompletionRequest) -> list[int]:
        """Return the tokens of a chat's prompt, whether they fit the window or not; see `chat`."""
        model = self.model_named(body.model)
        try:
            thinks = scripts.thinks(body, self.options)
            return conversation.render(body, thinks=thinks, vision=self.options.vision, model=model).ids
        except Refusal as refusal:
            raise self._as_told(refusal) from refusal

    def model_named(self, asked: str | None) -> str:
        """Return the name the reply gives its model.

        Raises:
            Refusal: there is none of that name.
        """
        if not asked or asked == self.options.served_name:
            return self.options.served_name
        if asked in self.options.adapters:
            return asked
        aliases = f" Valid aliases: {self.options.served_name}." if self.dialect.since(0, 27) else ""
        raise Refusal(
            f"The model `{asked}` does not exist.{aliases}",
            origin=Origin.RETURNED,
            status=HTTPStatus.NOT_FOUND,
            kind="NotFoundError",
            param="model" if self.dialect.since(0, 14) else None,
        )

    def _check_tools(self, body: ChatCompletionRequest) -> None:
        choice = body.tool_choice
        if self.options.tool_parser or choice in (None, "none"):
            return
        if choice == "auto":
            raise Refusal(
                '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
                origin=Origin.RETURNED,
            )
        if not self.dialect.since(0, 14):
            return
        named = f'function "{body.named_tool}"' if self.dialect.since(0, 27) else f'"{choice}"'
        wanted = '"required"' if body.named_tool is None else named
        raise Refusal(f"tool_choice={wanted} requires --tool-call-parser to be set", origin=Origin.RETURNED)

    def _rendered(self, body: ChatCompletionRequest, model: str) -> Conversation:
        thinks = scripts.thinks(body, self.options)
        chat = conversation.render(body, thinks=thinks, vision=self.options.vision, model=model)
        chat.ids = self._truncated(chat.ids, body)
        check_window(body, len(chat.ids), self.dialect, self.options.context_length)
        return chat

    def _as_told(self, refusal: Refusal) -> Refusal:
        """Return a refusal of a chat's prompt as it is worded: up to 0.15, text is all that is passed on."""
        if self.dialect.since(0, 16) or refusal.origin is not Origin.RAISED:
            return refusal
        # From 0.10 on the text is followed by the exception's cause, which is mostly None.
        return Refusal(f"{refusal.message} None" if self.dialect.since(0, 10) else refusal.message)

    def _no_suffix(self) -> Refusal:
        if not self.dialect.since(0, 27):
            return Refusal("suffix is not currently supported", origin=Origin.RETURNED)
        return Refusal(
            "suffix is only supported for models with FIM completion rendering",
            origin=Origin.RETURNED,
            param="suffix",
        )

    def _checked(self, prompt: Prompt, body: CompletionRequest) -> Prompt:
        if not prompt.ids:
            raise Refusal("The decoder prompt cannot be empty")
        unknown = max(prompt.ids)
        if unknown >= tokens.VOCABULARY_SIZE:
            raise Refusal(f"Token id {unknown} is out of vocabulary")
        return Prompt(self._truncated(prompt.ids, body), prompt.text)

    def _truncated(self, ids: list[int], body: SamplingBody) -> list[int]:
        """Return what truncate_prompt_tokens leaves: the end, from 0.27 on the beginning unless asked otherwise."""
        kept = body.truncate_prompt_tokens
        if kept is None:
            return ids
        window = self.options.context_length
        if kept > window:
            raise bad_value(
                f"truncate_prompt_tokens={kept} cannot be greater than max_model_len = {window}. "
                "Please request a smaller truncation size.",
                "truncate_prompt_tokens",
                kept,
                named=self.dialect.since(0, 14),
            )
        kept = window - 1 if kept == -1 else kept
        side = body.truncation_side or ("right" if self.dialect.since(0, 27) else "left")
        return ids[:kept] if side == "right" else ids[max(0, len(ids) - kept) :]

    def _failure(self, question: str, rounds: int) -> int | None:
        """Return after how many tokens the engine dies, if it gets that far."""
        asked = prose.failure_point(question)
        point = self.options.fail_after_tokens if asked is None else asked
        return None if point is None or point > rounds else point

    def _reply(self, body: SamplingBody, model: str, prefix: str, request_id: str | None) -> Reply:
        given = request_id or body.request_id
        name = f"{prefix}{given}" if given else new_id(self.dialect, prefix)
        return Reply(body, self.dialect, self.options, model, name)
