"""Waiting for endpoints and components: by describing them, ever less often, until they are there, gone or failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import ClientError

from deploy.aws import Aws, DeployError, if_there
from deploy.logs import tail
from deploy.observe import BUSY
from deploy.progress import Progress
from deploy.resources import Key

FIRST_POLL_S = 2.0
BACKOFF = 1.5
TAIL_LINES = 20

Waited = Literal["endpoint", "inference-component"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, and how often to look."""

    timeout_s: float = 7200.0
    """SageMaker gives a container an hour to start, and another to load its weights."""
    poll_s: float = 20.0
    """The longest pause between two looks."""


class Waiter:
    """Waits, and shows what for."""

    def __init__(
        self,
        aws: Aws,
        progress: Progress,
        patience: Patience,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._aws = aws
        self._progress = progress
        self._patience = patience
        self._sleep = sleep
        self._clock = clock

    def until_ready(self, key: Key, config: str | None = None) -> None:
        """Return once something is InService, an endpoint with the configuration `config`.

        Raises:
            DeployError: it failed, was rolled back, is gone, or takes too long; with AWS' reason and the log's end.
        """
        state = self.until_settled(key)
        what = f"the {key[0]} {key[1]}"
        if state is None:
            raise DeployError(f"{what} is gone: something else deleted it")
        status, reason = _status(state), state.get("FailureReason") or "AWS gives no reason"
        if status != "InService":
            raise DeployError(f"{what} is {status}: {reason}{self._log(key)}")
        current = state.get("EndpointConfigName")
        if config is not None and current != config:
            raise DeployError(
                f"{what} was rolled back: it serves with {current} again, not with {config}: {reason}{self._log(key)}"
            )

    def until_gone(self, key: Key) -> None:
        """Return once something is deleted.

        Raises:
            DeployError: it cannot be deleted, or takes too long.
        """
        state = self.until_settled(key)
        if state is not None:
            reason = state.get("FailureReason") or "AWS gives no reason"
            raise DeployError(f"the {key[0]} {key[1]} was not deleted, it is {_status(state)}: {reason}")

    def until_settled(self, key: Key) -> dict[str, Any] | None:
        """Return the description of an endpoint or component when AWS has nothing left to do; None if it is gone."""
        began, pause = self._clock(), min(FIRST_POLL_S, self._patience.poll_s)
        with self._progress.waiting(f"{key[0]} {key[1]}") as show:
            while True:
                state = self._describe(key)
                if state is None or _status(state) not in BUSY:
                    show("gone" if state is None else _status(state))
                    return state
                show(_detail(state))
                if self._clock() - began > self._patience.timeout_s:
                    raise DeployError(
                        f"the {key[0]} {key[1]} is still {_status(state)} after {self._patience.timeout_s / 60:.0f}"
                        " minutes; AWS goes on: run the same command again to wait for it"
                    )
                self._sleep(pause)
                pause = min(pause * BACKOFF, self._patience.poll_s)

    def _describe(self, key: Key) -> dict[str, Any] | None:
        sagemaker, (kind, name) = self._aws.sagemaker, key
        if kind == "endpoint":
            return if_there(sagemaker.describe_endpoint, EndpointName=name)
        return if_there(sagemaker.describe_inference_component, InferenceComponentName=name)

    def _log(self, key: Key) -> str:
        """Return the end of the container's log, below a line of its own; nothing if there is none to read."""
        try:
            lines = tail(self._aws, key, TAIL_LINES)
        except ClientError as error:
            return f"\nits log cannot be read: {self._aws.words(error)}"
        return "".join(f"\n  {line}" for line in ["the end of its log:", *lines]) if lines else "\nit has no log yet"


def _status(state: dict[str, Any]) -> str:
    return str(state.get("EndpointStatus") or state.get("InferenceComponentStatus"))


def _detail(state: dict[str, Any]) -> str:
    """Return the status and, while a fleet comes up, what its variants are at."""
    pending = state.get("PendingDeploymentSummary", {}).get("ProductionVariants")
    steps = [
        " ".join(filter(None, (variant["VariantName"], stage["Status"], stage.get("StatusMessage"))))
        for variant in pending or state.get("ProductionVariants", ())
        for stage in variant.get("VariantStatus", ())[-1:]
    ]
    return f"{_status(state)} ({'; '.join(steps)})" if steps else _status(state)
