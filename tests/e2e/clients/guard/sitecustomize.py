"""Keep a process on this machine: Python imports this module by itself where its folder is on PYTHONPATH.

SDKs like to report home and to fetch price lists, and hide that it failed: so a refusal is told on standard output.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys


def _refuse_other_hosts(event: str, arguments: tuple[object, ...]) -> None:
    # Lookups count too: the name asked for would leave the machine. https://docs.python.org/3/library/audit_events.html
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a path, for a Unix socket
    else:
        return
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    if not _is_local(name):
        os.write(1, b"\n" + json.dumps({"refused": name}).encode() + b"\n")
        raise OSError(f"this process contacts its own machine only, not {name!r}")


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


sys.addaudithook(_refuse_other_hosts)
