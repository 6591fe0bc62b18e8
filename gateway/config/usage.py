"""The configuration file's `usage_sink:` section: where a record of every call's usage goes.

Bucket names: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from gateway.config.kinds import Expected, Loc, Section

Kind = Literal["file", "stdout", "s3", "firehose"]
_BATCH_S: dict[Kind, float] = {"file": 1.0, "stdout": 1.0, "s3": 60.0, "firehose": 5.0}

Place = Annotated[
    str,
    StringConstraints(
        pattern=r"^(stdout|file:[^\x00-\x1f\x7f]{1,1024}|firehose:[A-Za-z0-9_.-]{1,64}"
        r"|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()=-]+)*/?)$"
    ),
    Expected("stdout, file:PATH, s3://BUCKET/PREFIX or firehose:STREAM"),
]


class UsageSink(Section):
    """Where records of usage go, one for every call that was admitted: see docs/logging.md."""

    to: Place
    """`file:PATH`, `stdout`, `s3://BUCKET/PREFIX` or `firehose:STREAM`. A relative path starts at the working
    directory."""
    region: (
        Annotated[
            str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$"), Expected("an AWS Region, such as us-east-1")
        ]
        | None
    ) = None
    """AWS Region of the bucket or the stream; by default that of the file's first deployment."""
    batch_s: Annotated[float, Field(ge=0.1, le=3600)] | None = None
    """Seconds for which records are gathered before they are written together; by default 60 for S3, which makes an
    object of them, 5 for Firehose, and 1 otherwise."""
    buffer_bytes: Annotated[int, Field(ge=65_536, le=1 << 30)] = 16_777_216
    """Memory of each worker for records that cannot be written yet; further ones are dropped and counted."""
    retry_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    """Seconds for which writing the same records is tried again."""
    rotate_bytes: Annotated[int, Field(ge=4096, le=1 << 40)] = 104_857_600
    """Size at which a file is put aside and a new one begun."""
    rotate_s: Annotated[int, Field(ge=1, le=31_536_000)] = 3600
    """A file holds records of one span of so many seconds, counted since 1970 in UTC."""

    @property
    def kind(self) -> Kind:
        kind = self.to.partition(":")[0]
        return "file" if kind == "file" else "s3" if kind == "s3" else "firehose" if kind == "firehose" else "stdout"

    @property
    def name(self) -> str:
        """The file's path, the stream's name, or bucket and prefix."""
        return self.to.partition(":")[2].removeprefix("//" if self.kind == "s3" else "").rstrip("/")

    @property
    def gathers_s(self) -> float:
        """Seconds for which records are gathered."""
        return _BATCH_S[self.kind] if self.batch_s is None else self.batch_s

    @classmethod
    def faults(cls, data: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
        if data.get("region") is not None and str(data.get("to", "s3:")).partition(":")[0] not in ("s3", "firehose"):
            yield ("region",), "region is for s3 and firehose"
        if str(data.get("to", "")).startswith("file:") and str(data["to"]).endswith("/"):
            yield ("to",), "a file is expected, not a folder"
