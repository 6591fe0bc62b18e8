"""What a model's configuration comes to."""

from __future__ import annotations

from adapters.openai.urls import UrlPolicy
from gateway.config.load import parse
from gateway.media.addresses import networks
from gateway.media.fetch import FetchPolicy
from gateway.media.policies import MediaPolicy, media_policy, url_policy

FILE = b"""
models:
  - name: plain
    deployments: [{endpoint: e, region: us-east-1, container: lmi, version: 27}]
  - name: own
    image_hosts: [images.example.com, "*.cdn.example.com"]
    media:
      urls: fetch
      allow_http: true
      ports: [8443, 9000]
      allow_private: [10.1.0.0/16, fd12::/48]
      max_fetch_bytes: 2048
      max_fetch_total_bytes: 4096
      fetch_timeout_s: 2.5
      max_redirects: 0
      max_pixels: 1000
      scale_down: false
    deployments:
      - {endpoint: e, region: us-east-1, container: vllm, version: 0.33, served_model_name: abc}
      - {endpoint: f, region: us-east-1, container: vllm, version: 0.33, served_model_name: abcde}
  - name: closed
    media: {urls: off}
    deployments: [{endpoint: e, region: us-east-1, container: lmi, version: 27}]
"""


def test_policies_of_a_file() -> None:
    plain, own, closed = parse(FILE, "gateway.yaml", {}).models
    assert media_policy(plain) == MediaPolicy(
        "plain", FetchPolicy(UrlPolicy("fetch")), 52_428_800, 50_000_000, scale_down=True, name_bytes=12
    )
    urls = UrlPolicy("fetch", ("images.example.com", "*.cdn.example.com"), http=True, ports=(8443, 9000))
    assert url_policy(own) == urls
    assert media_policy(own) == MediaPolicy(
        model="own",
        fetch=FetchPolicy(urls, networks(["10.1.0.0/16", "fd12::/48"]), max_bytes=2048, timeout_s=2.5, max_redirects=0),
        max_total_bytes=4096,
        max_pixels=1000,
        scale_down=False,
        name_bytes=42,
    )
    assert url_policy(closed) == UrlPolicy("off")


def test_equal_policies_are_one() -> None:
    """Models that fetch alike share what was fetched."""
    first, _, _ = parse(FILE, "gateway.yaml", {}).models
    again, _, _ = parse(FILE, "gateway.yaml", {}).models
    assert len({media_policy(first).fetch, media_policy(again).fetch}) == 1
