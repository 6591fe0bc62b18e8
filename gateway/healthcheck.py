"""`python -m gateway.healthcheck [/readyz]`: ask the gateway on this machine how it is, as container runtimes like it.

Exit code 0 if it answers 200, else 1 with the reason in one line. Needs nothing but the standard library, so that
asking every few seconds costs little. Where to ask is what LMI_GATEWAY_HOST and LMI_GATEWAY_PORT say.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping, Sequence

TIMEOUT_S = 4.0
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Ask once; return the exit code."""
    path = argv[0] if argv else "/healthz"
    host = environ.get("LMI_GATEWAY_HOST", "")
    port = environ.get("LMI_GATEWAY_PORT") or "8080"
    connection = None
    try:
        connection = http.client.HTTPConnection(LOOPBACK.get(host, host), int(port), timeout=TIMEOUT_S)
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"no answer: {type(error).__name__}", file=sys.stderr)
        return 1
    finally:
        if connection is not None:
            connection.close()
    if status != 200:
        print(f"{path} answers {status}", file=sys.stderr)
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
