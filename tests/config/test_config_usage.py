"""The section `usage_sink`: what it names, and what is taken where it says nothing."""

from __future__ import annotations

import pytest

from gateway.config.usage import UsageSink


@pytest.mark.parametrize(
    ("to", "kind", "name", "gathers_s"),
    [
        ("stdout", "stdout", "", 1.0),
        ("file:usage.jsonl", "file", "usage.jsonl", 1.0),
        ("file:/var/lib/a:b/usage.jsonl", "file", "/var/lib/a:b/usage.jsonl", 1.0),
        ("s3://billing", "s3", "billing", 60.0),
        ("s3://billing/", "s3", "billing", 60.0),
        ("s3://billing/team=a/lmi", "s3", "billing/team=a/lmi", 60.0),
        ("firehose:usage-records", "firehose", "usage-records", 5.0),
    ],
)
def test_a_place_says_what_it_is(to: str, kind: str, name: str, gathers_s: float) -> None:
    sink = UsageSink(to=to)
    assert (sink.kind, sink.name, sink.gathers_s) == (kind, name, gathers_s)
    assert UsageSink(to=to, batch_s=7).gathers_s == 7


@pytest.mark.parametrize(
    "to", ["", "file:", "stdout ", "s3://", "s3://B", "s3://ab/../c d", "firehose:", "firehose:a/b", "/var/x", "s3:b"]
)
def test_what_is_no_place_is_refused(to: str) -> None:
    with pytest.raises(ValueError, match="to"):
        UsageSink(to=to)
