"""A process that puts records of usage into S3 or Firehose by aioboto3, for the serving process that has started it.

It ends with its standard input. So serving processes hold neither botocore's tables nor its HTTP stack, and no answer
of AWS' takes the interpreter from their event loop.

Each question is a line of JSON and as many bytes as it says; each answer a line of JSON.
{"put": "s3", "region": …, "bucket": …, "key": …, "bytes": n}: an object of those bytes
{"put": "firehose", "region": …, "stream": …, "bytes": n}: a record of each line
Answer: {"failed": [numbers of the lines that were not taken], "error": AWS' code}; an object has one number, 0.
https://docs.aws.amazon.com/firehose/latest/APIReference/API_PutRecordBatch.html
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import AsyncExitStack
from typing import Any

import aioboto3
from botocore.config import Config
from botocore.exceptions import ClientError

CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 2})


class Putter:
    """Has a client, and puts."""

    def __init__(self) -> None:
        self._opened = AsyncExitStack()
        self._client: Any = None

    async def put(self, question: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Return the answer; what went wrong is an `error` in it."""
        try:
            if self._client is None:
                client = aioboto3.Session().client(question["put"], region_name=question["region"], config=CONFIG)
                self._client = await self._opened.enter_async_context(client)
            if question["put"] == "s3":
                await self._client.put_object(
                    Bucket=question["bucket"], Key=question["key"], Body=data, ContentType="application/gzip"
                )
                return {"failed": [], "error": ""}
            records = [{"Data": line + b"\n"} for line in data.split(b"\n")]
            answer = await self._client.put_record_batch(DeliveryStreamName=question["stream"], Records=records)
            codes = [record.get("ErrorCode") for record in answer["RequestResponses"]]
            failed = [number for number, code in enumerate(codes) if code]
            return {"failed": failed, "error": next((code for code in codes if code), "")}
        except ClientError as error:
            # Only the error's code: its text can hold account ids and names.
            return {"failed": None, "error": str(error.response.get("Error", {}).get("Code", "ClientError"))}
        except Exception as error:
            return {"failed": None, "error": type(error).__name__}

    async def close(self) -> None:
        await self._opened.aclose()


def main() -> None:
    logging.disable(logging.CRITICAL)
    source, answers = sys.stdin.buffer, sys.stdout
    putter = Putter()
    with asyncio.Runner() as runner:
        while line := source.readline():
            question = json.loads(line)
            data = source.read(question["bytes"])
            if len(data) < question["bytes"]:
                break
            json.dump(runner.run(putter.put(question, data)), answers)
            answers.write("\n")
            answers.flush()
        runner.run(putter.close())


if __name__ == "__main__":
    main()
