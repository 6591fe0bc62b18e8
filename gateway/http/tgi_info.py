"""TGI's `GET /info` and `GET /health`: what a model can take, and whether the gateway can serve.

https://github.com/huggingface/text-generation-inference: router/src/server.rs (Info, health)
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from adapters.openai.caps import MAX_CHOICES
from gateway import __version__
from gateway.config.tgi import Tgi
from gateway.http.authenticate import Authenticator, Peer
from gateway.http.plain import Headers
from gateway.http.tgi import ModelChoice
from gateway.routing.catalog import ServedModel

UNHEALTHY = b'{"error":"unhealthy","error_type":"healthcheck"}'

_encode = msgspec.json.Encoder().encode


class InfoAnswer:
    """Answers `/info`: for a key, because it says which models there are."""

    def __init__(self, authenticate: Authenticator, choice: ModelChoice, config: Tgi, workers: int) -> None:
        self._authenticate = authenticate
        self._choice = choice
        self._config = config
        self._workers = workers

    def __call__(self, headers: Headers, peer: Peer, name: str | None) -> tuple[int, bytes]:
        """Return TGI's fields for a model, the default one where the URL names none.

        Raises:
            GatewayError: the key is none of ours, or there is no such model for it.
        """
        model = self._choice.find(name, None, self._authenticate(headers, peer))
        return 200, _encode(self._fields(model))

    def _fields(self, model: ServedModel) -> dict[str, object]:
        window = model.config.context_length
        return {
            "model_id": model.name,
            "model_sha": None,
            "model_pipeline_tag": "image-text-to-text" if "image" in model.config.modalities else "text-generation",
            "max_concurrent_requests": None,  # SageMaker scales, and no one here knows how far
            "max_best_of": self._config.max_best_of,
            "max_stop_sequences": self._config.max_stop_sequences,
            "max_input_tokens": None if window is None else window - 1,
            "max_total_tokens": window,
            "validation_workers": self._workers,
            "max_client_batch_size": MAX_CHOICES,
            "router": "lmi-gateway",
            "version": __version__,
            "sha": None,
            "docker_label": None,
        }


class HealthAnswer:
    """Answers `/health`: without a key, unless the URL names a model."""

    def __init__(self, authenticate: Authenticator, choice: ModelChoice, healthy: Callable[[], bool]) -> None:
        self._authenticate = authenticate
        self._choice = choice
        self._healthy = healthy

    def __call__(self, headers: Headers, peer: Peer, name: str | None) -> tuple[int, bytes]:
        """Return 200 and nothing, or 503 and TGI's words for it.

        Raises:
            GatewayError: see `InfoAnswer`; only where the URL names a model.
        """
        if name is not None:
            self._choice.find(name, None, self._authenticate(headers, peer))
        return (200, b"") if self._healthy() else (503, UNHEALTHY)
