"""`python -m deploy.local`: the local SageMaker as a process.

When it listens it prints one line of JSON to stdout: {"event":"ready","url":"http://127.0.0.1:…","endpoints":[…]}.
SIGTERM and SIGINT end it, exit code 0. A bad argument is one line on stderr and exit code 2, a taken port 1.
A container that cannot serve is a warning on stderr: it may still be loading. Calls to it are refused until it can.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import urlsplit

from deploy.local import cutting
from deploy.local.awserrors import Refused
from deploy.local.container import Container
from deploy.local.httpcontainer import HttpContainer
from deploy.local.members import check_endpoint_name
from deploy.local.runtime import Endpoint, Limits
from deploy.local.server import DEFAULT_REGION, DEMO_KEY, LocalSageMaker
from deploy.local.sigv4 import AccessKey

log = logging.getLogger("deploy.local")

CONTAINER_NAME = "container"
"""The endpoint of a container that is given without a name."""
SCHEMES = ("http://", "https://")

EPILOG = f"""
endpoint:   NAME=DIALECT, a built-in engine that speaks like that container
            (lmi15 … lmi28, vllm, vllm-0.11 …, tgi, tgi-2.4 …);
            NAME=http://127.0.0.1:8080, a server with GET /ping and POST /invocations.
            Options follow with commas: variant=NAME, component=NAME (an inference component; NAME:ADAPTER for one
            that stands for an adapter; may be repeated), and for a DIALECT those of the engine (context_length=4096,
            adapters=NAME+NAME; without it, the adapters of the components are loaded).
container:  http://127.0.0.1:8080, short for --endpoint {CONTAINER_NAME}=http://127.0.0.1:8080; NAME=URL names the
            endpoint. Options follow as above.
cut:        {cutting.CUT_MODES}
chunking:   {cutting.CHUNKING_MODES}
Faults and records are at /_local/ on the same port; see deploy/local/control.py and deploy/local/faults.py.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


@dataclass(frozen=True, slots=True)
class EndpointArgument:
    """`NAME=WHAT[,option=value…]`, taken apart."""

    name: str
    what: str
    """A dialect, or the URL of a container."""
    variant: str = "AllTraffic"
    components: dict[str, str | None] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    """For the engine."""

    @property
    def is_url(self) -> bool:
        return self.what.startswith(SCHEMES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; return the exit code."""
    parser = _arguments()
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        endpoints, urls = _endpoints(arguments)
        local = LocalSageMaker(
            endpoints,
            access_keys=arguments.access_key or [DEMO_KEY],
            region=arguments.region,
            host=arguments.host,
            port=arguments.port,
            limits=Limits(
                invocation_timeout_s=arguments.invocation_timeout,
                stream_timeout_s=arguments.stream_timeout,
                max_body_bytes=arguments.max_body_bytes,
                idle_timeout_s=arguments.idle_timeout,
            ),
            cut=arguments.cut,
            chunking=arguments.chunking,
        )
    except ValueError as error:
        parser.error(str(error))
    try:
        asyncio.run(_serve(local, urls))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror
        sys.stderr.write(f"{parser.prog}: cannot listen on {arguments.host}:{arguments.port}: {reason}\n")
        return 1
    return 0


async def _serve(local: LocalSageMaker, urls: Mapping[str, str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with local:
        ready = {"event": "ready", "url": local.url, "endpoints": list(local.endpoints)}
        print(json.dumps(ready, separators=(",", ":")), flush=True)
        asking = asyncio.gather(*(_ask(name, url, local.endpoints[name].container) for name, url in urls.items()))
        await stop.wait()
        asking.cancel()


async def _ask(endpoint: str, url: str, container: Container) -> None:
    """Say so if a container cannot serve."""
    timeout_s = Limits().ping_timeout_s
    answer = f"no answer within {timeout_s:g} s"
    try:
        async with asyncio.timeout(timeout_s):
            status = await container.ping()
        if status == 200:
            return
        answer = str(status)
    except TimeoutError:
        pass
    except ConnectionError as error:
        answer = str(error)
    log.warning("endpoint %s refuses calls until GET %s/ping answers 200; now: %s", endpoint, url, answer)


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m deploy.local",
        description="SageMaker Runtime on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=_port, default=0, help="port to listen on; 0 takes a free one (%(default)s)")
    add("--endpoint", action="append", type=_endpoint, default=[], metavar="NAME=WHAT[,…]", help="see below")
    add("--container", action="append", type=_container_url, default=[], metavar="[NAME=]URL[,…]", help="see below")
    add(
        "--access-key",
        action="append",
        type=_access_key,
        metavar="ID:SECRET[:TOKEN]",
        help=f"a key pair that may sign calls; without any it is the demo pair {DEMO_KEY.id}",
    )
    add("--region", default=DEFAULT_REGION, help="region that signatures must name (%(default)s)")
    add("--first-token-delay", type=_seconds, metavar="S", help="of the built-in engines")
    add("--token-delay", type=_seconds, metavar="S", help="of the built-in engines, between tokens")
    add("--cut", default="as-written", metavar="MODE", help="where PayloadParts are cut (%(default)s)")
    add("--chunking", default="frame", metavar="MODE", help="how frames go into HTTP chunks (%(default)s)")
    add("--invocation-timeout", type=_seconds, default=60.0, metavar="S", help="of a whole answer (%(default)s)")
    add("--stream-timeout", type=_seconds, default=480.0, metavar="S", help="of a streamed answer (%(default)s)")
    add("--max-body-bytes", type=_at_least_one, default=6 * 1024 * 1024, metavar="N", help="of a call (%(default)s)")
    add("--idle-timeout", type=_seconds, default=60.0, metavar="S", help="of a connection between calls (%(default)s)")
    return parser


def _endpoints(arguments: argparse.Namespace) -> tuple[dict[str, Endpoint], dict[str, str]]:
    """Return the endpoints, and the URLs of those whose container is reached by one."""
    found: dict[str, Endpoint] = {}
    urls: dict[str, str] = {}
    for option in ("endpoint", "container"):
        for argument in getattr(arguments, option):
            if argument.name in found:
                raise ValueError(f"argument --{option}: {argument.name!r} is given twice")
            container = _container(argument, arguments)
            found[argument.name] = Endpoint(container, variant=argument.variant, components=argument.components)
            if argument.is_url:
                urls[argument.name] = argument.what.rstrip("/")
    if not found:
        raise ValueError("one of the arguments --endpoint --container is required")
    return found, urls


def _container(argument: EndpointArgument, arguments: argparse.Namespace) -> Container:
    if argument.is_url:
        if argument.options:
            raise ValueError(f"argument --endpoint: a container by URL takes no {', '.join(argument.options)}")
        return HttpContainer(argument.what)
    from deploy.local import engine  # Here, because a container by URL needs no engine.

    timing: dict[str, object] = {
        "first_token_delay_s": arguments.first_token_delay,
        "token_delay_s": arguments.token_delay,
    }
    options = {name: value for name, value in timing.items() if value is not None}
    if adapters := [adapter for adapter in argument.components.values() if adapter is not None]:
        options["adapters"] = adapters
    options |= argument.options
    try:
        return engine.build(argument.what, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"argument --endpoint: {argument.name}: {error}") from error


def _endpoint(text: str) -> EndpointArgument:
    name, equals, rest = text.partition("=")
    what, *options = rest.split(",")
    if not equals or not what:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIALECT or NAME=http://host:port")
    try:
        check_endpoint_name(name)
    except Refused:
        raise argparse.ArgumentTypeError(
            f"{name!r} is no endpoint name: up to 63 letters, digits and hyphens"
        ) from None
    found = EndpointArgument(name, what)
    if found.is_url and not _is_origin(what):
        raise argparse.ArgumentTypeError(f"{what!r} is not a URL without a path, such as http://127.0.0.1:8080")
    variant = found.variant
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key or not value:
            raise argparse.ArgumentTypeError(f"{option!r} is not option=value")
        if key == "variant":
            variant = value
        elif key == "component":
            component, _, adapter = value.partition(":")
            found.components[component] = adapter or None
        elif key == "adapters":
            found.options[key] = value.split("+")
        else:
            found.options[key] = _value(value)
    return EndpointArgument(name, what, variant, found.components, found.options)


def _container_url(text: str) -> EndpointArgument:
    named = f"{CONTAINER_NAME}={text}" if text.startswith(SCHEMES) else text
    if not named.partition("=")[2].startswith(SCHEMES):
        raise argparse.ArgumentTypeError(f"{text!r} is not http://host:port or NAME=http://host:port")
    return _endpoint(named)


def _is_origin(url: str) -> bool:
    """Return whether a URL has a host and perhaps a port, and nothing else."""
    try:
        parts = urlsplit(url)
        return bool(re.fullmatch(r"https?://[^/?#@\s]+/?", url) and parts.hostname and parts.port != 0)
    except ValueError:  # the port is no number, or an IPv6 address lacks its bracket
        return False


def _value(text: str) -> object:
    """Return the text as what it looks like: a boolean, a number, or itself."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _access_key(text: str) -> AccessKey:
    key_id, _, rest = text.partition(":")
    secret, _, token = rest.partition(":")
    if not key_id or not secret:
        # The text may hold a secret, so it is not repeated.
        raise argparse.ArgumentTypeError("must be ID:SECRET or ID:SECRET:TOKEN")
    return AccessKey(key_id, secret, token or None)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
