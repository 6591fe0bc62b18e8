"""What TGI's chats and completions have in common: names, numbers and the pieces of their JSON.

https://github.com/huggingface/text-generation-inference: router/src/lib.rs
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from deploy.local.engine import jsontext
from deploy.local.engine.tgi.answers import END, Answer, Said, top_tokens
from deploy.local.engine.tgi.errors import TgiError
from deploy.local.engine.tgi.generatejob import error_record
from deploy.local.engine.tgi.release import Release

Json = dict[str, Any]

DOCKER_LABEL = "sha-f426a33"

_NOTHING: Json = {
    "best_of": None,
    "temperature": None,
    "repetition_penalty": None,
    "frequency_penalty": None,
    "top_k": None,
    "top_p": None,
    "typical_p": None,
    "do_sample": True,
    "max_new_tokens": None,
    "return_full_text": None,
    "stop": (),
    "truncate": None,
    "watermark": False,
    "details": True,
    "decoder_input_details": False,
    "seed": None,
    "top_n_tokens": None,
    "grammar": None,
    "adapter_id": None,
}


def parameters(body: Json, release: Release) -> Json:
    """Return the parameters of the generate request that a chat or completion becomes."""
    wanted = body["max_tokens"]
    made = _NOTHING | {
        "frequency_penalty": body["frequency_penalty"],
        "temperature": body["temperature"],
        "top_p": body["top_p"],
        "max_new_tokens": release.default_tokens if wanted is None else wanted,
        "stop": body.get("stop") or (),
        "seed": body["seed"],
    }
    if body["temperature"] == 0.0 and release.greedy_at_zero:
        made |= {"do_sample": False, "temperature": None}
    return made


def now_s() -> int:
    """Return the time replies are created at."""
    return int(time.time())


def fingerprint(release: Release) -> str:
    """Return every reply's system_fingerprint."""
    return f"{release.name}-{DOCKER_LABEL}"


def finish_reason(answer: Answer, release: Release) -> str:
    """Return why an answer ended, as a whole reply and a chat's stream have it."""
    return "stop" if answer.finish == END and not release.old_schema else answer.finish


def usage(answers: Sequence[Answer], *, knows_prompt: bool = True) -> Json:
    """Return the counts of some answers."""
    prompt = sum(len(answer.prompt) for answer in answers) if knows_prompt else 0
    completion = sum(len(answer.said) for answer in answers)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def knows_prompts(release: Release, *, shows_prefill: bool) -> bool:
    """Return whether whole replies count the prompt: up to 3.1 they did so by the prefill, where there is any."""
    return release.since(3, 2) or shows_prefill


def logprobs(answer: Answer, places: Sequence[int], top: int) -> Json:
    """Return the `logprobs` of some tokens of a chat."""
    content = []
    for place in places:
        said: Said = answer.said[place]
        listed = top_tokens(answer, place, top) if top else []
        content.append(
            {
                "token": said.text,
                "logprob": said.logprob,
                "top_logprobs": [{"token": other["text"], "logprob": other["logprob"]} for other in listed],
            }
        )
    return {"content": content}


def stream_error(error: TgiError, release: Release) -> bytes:
    """Return an error in the stream of a chat or completion."""
    if not release.openai_errors:
        return error_record(error)
    # The status in it is always this one.
    return jsontext.value({"error": {"message": error.error, "http_status_code": 422}})
