"""The upstream addresses and their connection pools."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from gateway.sagemaker.http1 import Origin


class Origins:
    """One `Origin`, and so one connection pool, for each upstream address."""

    def __init__(self, *, ca_bundle: Path | None, idle_s: float) -> None:
        self._ca_bundle = ca_bundle
        self._idle_s = idle_s
        self._by_url: dict[str, Origin] = {}
        self._context: ssl.SSLContext | None = None

    def get(self, url: str) -> Origin:
        """Return the origin of `url` (scheme, host and port)."""
        if url not in self._by_url:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            self._by_url[url] = Origin(
                parts.scheme,
                parts.hostname or "",
                port,
                ssl_context=self._tls() if parts.scheme == "https" else None,
                idle_s=self._idle_s,
            )
        return self._by_url[url]

    @property
    def open_connections(self) -> int:
        return sum(origin.open_connections for origin in self._by_url.values())

    def close(self) -> None:
        for origin in self._by_url.values():
            origin.close()

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context(cafile=str(self._ca_bundle) if self._ca_bundle else None)
        return self._context


# DNS suffix of each partition whose regions start so; the rest are amazonaws.com. A test compares it with botocore.
_SUFFIXES = (
    ("cn-", "amazonaws.com.cn"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
)


def runtime_url(region: str) -> str:
    """Return the public address of sagemaker-runtime in `region`."""
    suffix = next((suffix for prefix, suffix in _SUFFIXES if region.startswith(prefix)), "amazonaws.com")
    return f"https://runtime.sagemaker.{region}.{suffix}"
