"""The configuration file's `tgi:` section: what the routes of Text Generation Inference do.

The limits are those of TGI's launcher, by the names they have there:
https://huggingface.co/docs/text-generation-inference/reference/launcher
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from gateway.config.kinds import Section


class Tgi(Section):
    """What the routes of Text Generation Inference (TGI) do."""

    default_model: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    """Name or alias of the model that calls without a model mean. Without it the file's only model, if there is no
    other."""
    return_full_text: bool = True
    """Whether answers of `POST /` repeat the prompt where the call does not say; TGI's own default depends on the
    model, and is `true` for text models."""
    max_best_of: Annotated[int, Field(ge=1, le=20)] = 2
    """Largest `best_of`; each of the answers is generated, and paid for."""
    max_stop_sequences: Annotated[int, Field(ge=0, le=16)] = 4
    """Most strings in `stop`."""
    max_top_n_tokens: Annotated[int, Field(ge=0, le=20)] = 5
    """Largest `top_n_tokens`."""
