"""The records of usage that a configuration asks for, and their destination."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from gateway.config.load import Config
from gateway.config.usage import UsageSink
from gateway.sagemaker.usage import FirehoseDestination, S3Destination
from gateway.telemetry.usage import Destination, UsageRecords
from gateway.telemetry.usage_files import FileDestination, StdoutDestination


def make_usage_records(config: Config, count: Callable[[str, str, int], None]) -> UsageRecords | None:
    """Return what takes the records of calls, None if nobody wants them.

    Args:
        count: told of the kind of destination, what became of records, and of how many.
    """
    sink = config.usage_sink
    if sink is None:
        return None
    return UsageRecords(
        _destination(sink, sink.region or config.models[0].deployments[0].region),
        gathers_s=sink.gathers_s,
        buffer_bytes=sink.buffer_bytes,
        retry_s=sink.retry_s,
        count=partial(count, sink.kind),
    )


def _destination(sink: UsageSink, region: str) -> Destination:
    match sink.kind:
        case "file":
            return FileDestination(Path(sink.name), rotate_bytes=sink.rotate_bytes, rotate_s=sink.rotate_s)
        case "stdout":
            return StdoutDestination()
        case "s3":
            bucket, _, prefix = sink.name.partition("/")
            return S3Destination(bucket, prefix, region)
        case "firehose":
            return FirehoseDestination(sink.name, region)
