"""The built-in engine: a small deterministic stand-in for a language model, inside an imitated container.

It is no model. It answers any request an LMI, vLLM or TGI container would, in that container's bytes, at a pace that
can be set, so that demos run without a GPU and tests know what comes back.

    build ─▶ engine ──▶ lmi, lmi_inputs · vllm   what a body is, how answers are framed, how errors are worded
               ├─ tgi                            all of TGI's replies, with scripts, schemas, tokens … of the others
               └─ answering ─▶ bodies crosschecks conversation images sampling      the request, checked
                            ─▶ scripts prose · schemas patterns grammars            what is said
                            ─▶ generation tokens                                    token by token
                            ─▶ chat message deltas · completions · logprobs         the reply's JSON, by release

What it says goes by the last thing the user wrote (of a raw prompt, all of it):

    hello, hi, hey, good morning       Hello! How can I help you today?
    count · count to N                 1, 2, 3, … (to 100, to N)
    repeat: TEXT · echo: TEXT          TEXT, exactly
    emoji · lines · json               characters of several bytes · line breaks and blank lines · a JSON object
    fail after N                       the engine dies after N tokens (option fail_after_tokens: in every answer)
    anything else                      a few sentences, the first of which quotes the prompt

With tools: a word of a tool's name ("weather" for get_weather), "tool", "call" or "function" calls it; "both" calls
two; "look" says something first; "broken" calls one with arguments that end too early; results are quoted. Arguments
and structured answers are made from their JSON Schema; a city that the prompt names ("in Rome") is used. Pictures are
answered with their types and sizes. Temperature 0 takes the plainest choice everywhere; above it, seed and choice
decide, and no seed is seed 0. Penalties, logit_bias, top_p, top_k, min_p and bad_words are checked and change nothing.

Limits: oneOf counts as anyOf; `schemas`, `patterns` and `grammars` name what they refuse. Beam search, audio, video,
embeddings, structural tags and LMI's custom formatters are not imitated. An empty chat has the newest release's text.
"""

from deploy.local.engine import dialect as _dialect
from deploy.local.engine import options as _options
from deploy.local.engine.dialect import NAMES, Dialect
from deploy.local.engine.engine import Engine, Stream
from deploy.local.engine.options import Options

__all__ = ["NAMES", "Dialect", "Engine", "Options", "Stream", "build"]


def build(dialect: str, **options: object) -> Engine:
    """Return a container that speaks a dialect: `lmi15` to `lmi28`, `vllm`, `tgi`, or a release such as `tgi-2.4`.

    The options are the fields of `Options`.

    Raises:
        ValueError: an unknown dialect or option, or a value an option cannot have.
    """
    spoken = _dialect.parse(dialect)
    return Engine(spoken, _options.read(spoken, options))
