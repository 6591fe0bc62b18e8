"""What a run is to do: values without secrets, which cross to other processes and into the report."""

from __future__ import annotations

from typing import Literal

import msgspec

from deploy.bench.amounts import Distribution

Json = dict[str, object]


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where calls go."""

    kind: Literal["openai", "sagemaker"]
    origin: str
    """`https://host[:port]`."""
    path: str
    """Of the calls, as sent."""
    model: str | None
    api: Literal["chat", "completions"] = "chat"
    stream: bool = True
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable with the key; the key itself is nowhere in a plan."""
    region: str | None = None
    endpoint: str | None = None
    inference_component: str | None = None
    variant: str | None = None
    container: Literal["auto", "lmi", "vllm"] = "auto"
    """What speaks: with `auto` any of OpenAI's dialects is understood, and no field is sent that only vLLM knows."""


class Prompts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What calls say."""

    input_tokens: Distribution
    output_tokens: Distribution | None
    """None: as the file says, or as the container likes."""
    shared_prefix: float = 0.0
    """The share of every prompt that it has in common with others of its group, 0 to 1."""
    prefix_groups: int = 1
    file: str | None = None
    images: int = 0
    image_size: tuple[int, int] = (512, 512)
    """Width and height in pixels."""
    exact_output: bool = False
    """Send ignore_eos and min_tokens, so that answers have as many tokens as asked for."""
    extra: Json = {}
    """Fields that are put into every body."""


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How calls are spread in time, at every stage."""

    duration_s: float | None
    requests: int | None
    """Measured calls of a stage; exactly one of this and `duration_s`."""
    warmup_s: float
    ramp_s: float
    arrivals: Literal["poisson", "constant"] = "poisson"
    max_outstanding: int = 10_000
    timeout_s: float = 300.0
    idle_timeout_s: float = 120.0
    connect_timeout_s: float = 10.0


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One level of load."""

    index: int
    loop: Literal["closed", "open"]
    level: float
    """Callers of a closed loop, requests/s of an open one."""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole run."""

    target: Target
    prompts: Prompts
    load: Load
    stages: tuple[Stage, ...]
    seed: int = 0


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the generating processes this is."""

    index: int = 0
    of: int = 1

    def part(self, total: int) -> int:
        """Return how many of `total` things are this process' own."""
        return total * (self.index + 1) // self.of - total * self.index // self.of
