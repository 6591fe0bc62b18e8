"""Names to addresses, in threads of their own: slow name servers of callers' choosing hold up nothing else.

The system's resolver cannot be interrupted. So a look-up that nobody waits for any more keeps its place until it ends,
and its thread is one that a process may end without.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

MAX_LOOKUPS = 16


def ask_system(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the system's order.

    Raises:
        OSError: there is no such host, or nobody knows.
    """
    return [str(address[0]) for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Resolver:
    """Asks the system, a few questions at a time. What it says is not kept: every connection asks anew."""

    def __init__(self, ask: Callable[[str, int], list[str]] = ask_system) -> None:
        self._ask = ask
        self._places = asyncio.Semaphore(MAX_LOOKUPS)

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host.

        Raises:
            OSError: there is no such host, or nobody knows.
        """
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def told(addresses: list[str] | None, error: Exception | None) -> None:
            self._places.release()
            if found.done():
                return
            if error is not None:
                found.set_exception(error)
            else:
                found.set_result(addresses or [])

        def look_up() -> None:
            addresses, error = None, None
            try:
                addresses = self._ask(host, port)
            except Exception as failure:
                error = failure
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(told, addresses, error)

        try:
            threading.Thread(target=look_up, name="media-dns", daemon=True).start()
        except RuntimeError as error:  # the system has no thread left
            self._places.release()
            raise OSError("no thread to look it up") from error
        return await found
