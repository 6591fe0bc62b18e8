"""One streaming answer: the container's bytes in, frames out, and whatever is to go wrong between.

The walk for each chunk: cut into payloads → `framefaults.step` → HTTP chunks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from deploy.local import cutting, eventstream, faults, framefaults
from deploy.local.calls import Call, CallLog
from deploy.local.containerio import ContainerGone, next_chunk
from deploy.local.cutting import Cutter
from deploy.local.faultlist import Plan
from deploy.local.framefaults import Finish
from deploy.local.httpreply import Reply

TIMED_OUT = "Your model {container} did not complete sending the inference response in the allotted time."
"""https://github.com/aws/sagemaker-python-sdk/issues/1119"""
BROKEN = "The Transmission Control Protocol (TCP) connection between the client and the model was reset or closed."
"""What the API reference says of StreamBroken."""


class FrameWriter:
    """Puts frames into HTTP chunks, and counts those that are out whole."""

    def __init__(self, reply: Reply, call: Call, calls: CallLog, chunking: str, drip: faults.Drip | None) -> None:
        self._reply, self._call, self._calls, self._drip = reply, call, calls, drip
        self._split, self._join = cutting.parse_chunking(chunking)
        self._joined: list[bytes] = []

    async def send(self, frame: bytes) -> None:
        """Send a whole frame, or hold it until enough are there to be joined."""
        if self._join > 1:
            self._joined.append(frame)
            if len(self._joined) >= self._join:
                await self.flush()
            return
        await self._write(frame, 1)

    async def fragment(self, data: bytes) -> None:
        """Send part of a frame."""
        await self.flush()
        await self._write(data, 0)

    async def flush(self) -> None:
        """Send what is held."""
        if self._joined:
            frames, self._joined = self._joined, []
            await self._write(b"".join(frames), len(frames))

    async def _write(self, data: bytes, frames: int) -> None:
        if self._drip is not None:
            await drip(self._reply, data, self._drip)
        elif self._split is None:
            await self._reply.write(data)
        else:
            for start in range(0, len(data), self._split):
                await self._reply.write(data[start : start + self._split])
                await asyncio.sleep(0)  # So that the pieces leave in several writes.
        self._call.frames_sent += frames
        self._calls.changed(self._call)


class StreamRelay:
    """Relays one container reply, making the faults of a plan."""

    def __init__(self, reply: Reply, out: FrameWriter, call: Call, plan: Plan, *, container_name: str) -> None:
        self._reply, self._out, self._call, self._plan = reply, out, call, plan
        self._container_name = container_name
        self._fault = plan.one("frames")
        self._stall = plan.first(faults.Stall)
        self._index = 0

    async def relay(self, body: bytes | AsyncIterator[bytes], cutter: Cutter, deadline: float) -> None:
        """Send the body, then end the stream; `deadline` is on the loop's clock and binds the container alone.

        Raises:
            ConnectionError: the client has left.
        """
        try:
            finish = await self._parts(body, cutter, deadline)
        except TimeoutError:
            message = TIMED_OUT.format(container=self._container_name)
            finish = await self._exception("ModelInvocationTimeExceeded", message, cutter)
        except ContainerGone:
            finish = await self._exception("StreamBroken", BROKEN, cutter)
        await self._finish(finish)

    async def _parts(self, body: bytes | AsyncIterator[bytes], cutter: Cutter, deadline: float) -> Finish:
        if isinstance(body, bytes):
            chunk: bytes | None = body
            for part in cutter.feed(body):
                if (finish := await self._part(part)) is not None:
                    return finish
        else:
            chunks = aiter(body)
            while (chunk := await next_chunk(chunks, deadline)) is not None:
                for part in cutter.feed(chunk):
                    if (finish := await self._part(part)) is not None:
                        return finish
        for part in cutter.flush():
            if (finish := await self._part(part)) is not None:
                return finish
        return await self._part(None) or "end"

    async def _part(self, payload: bytes | None) -> Finish | None:
        if self._fault is None and self._stall is None:
            if payload is None:
                return "end"
            await self._out.send(eventstream.payload_part(payload))
            return None
        await self._maybe_stall(payload)
        step = framefaults.step(self._fault, self._index, payload)
        self._index += 1
        for frame in step.frames:
            await self._out.send(frame)
        if isinstance(self._fault, faults.ModelStreamError | faults.InternalStreamFailure) and step.finish:
            self._call.error = type(self._fault).__name__
        if step.fragment:
            await self._out.fragment(step.fragment)
        return step.finish

    async def _maybe_stall(self, payload: bytes | None) -> None:
        stall = self._stall
        if stall is None or (self._index < stall.after_frames and payload is not None):
            return
        self._stall = None
        await self._out.flush()
        await wait_out(stall.s, self._plan)

    async def _exception(self, code: str, message: str, cutter: Cutter) -> Finish:
        for part in cutter.flush():
            if (finish := await self._part(part)) is not None:
                return finish
        self._call.error = "ModelStreamError"
        members = {"Message": message, "ErrorCode": code}
        await self._out.send(eventstream.exception("ModelStreamError", members))
        return "end"

    async def _finish(self, finish: Finish) -> None:
        await self._out.flush()
        match finish:
            case "end":
                self._reply.end()
            case "close" | "reset":
                await self._reply.hang_up(reset=finish == "reset")
            case "bad chunk":
                self._reply.write_raw(b"not-a-size\r\n")
                await self._reply.hang_up(reset=False)


async def drip(reply: Reply, data: bytes, fault: faults.Drip) -> None:
    """Send data a few bytes at a time."""
    for start in range(0, len(data), fault.bytes):
        await reply.write(data[start : start + fault.bytes])
        await asyncio.sleep(fault.interval_s)


async def wait_out(seconds: float | None, plan: Plan) -> None:
    """Wait so long, or with None until the faults are cleared; a client that leaves cancels the call anyway."""
    try:
        async with asyncio.timeout(seconds):
            await plan.cleared.wait()
    except TimeoutError:
        return
