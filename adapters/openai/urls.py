"""Which URLs a caller may put into a prompt: whoever fetches what they name does so from inside the operator's network.

The rule is a list of what may pass, on the very string that is used, so that no two parsers can disagree about it
(CVE-2025-6242 and CVE-2026-24779 were such disagreements, on userinfo and on backslashes). data: URLs always may.
What a name stands for is not known here: who fetches checks every address before connecting.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from adapters.openai.media import Kind
from adapters.openai.media_images import measure, window_of_base64
from adapters.openai.refusal import wrong_value

MAX_URL_CHARS = 4096
USUAL_PORTS = {"https": 443, "http": 80}

# One spelling of each: lower case, base64, no parameters. vLLM reads video/jpeg as a list of frames (CVE-2026-5497).
_DATA_PREFIXES: dict[Kind, tuple[str, ...]] = {
    "image": tuple(f"data:image/{name};base64," for name in ("png", "jpeg", "jpg", "gif", "webp")),
    "audio": tuple(
        f"data:audio/{name};base64,"
        for name in ("wav", "x-wav", "wave", "mpeg", "mp3", "mp4", "aac", "ogg", "opus", "flac", "webm")
    ),
    "video": tuple(
        f"data:video/{name};base64," for name in ("mp4", "mpeg", "ogg", "webm", "quicktime", "x-matroska", "x-msvideo")
    ),
}
NAMES: dict[Kind, str] = {
    "image": "PNG, JPEG, GIF or WebP image",
    "audio": "WAV, MP3, MP4, AAC, Ogg, Opus, FLAC or WebM sound",
    "video": "MP4, MPEG, Ogg, WebM, QuickTime, Matroska or AVI film",
}
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_URL = re.compile(
    rf"(https?)://(?:({_LABEL}(?:\.{_LABEL})*)|\[([0-9a-f:.]{{2,45}})\])(?::([1-9][0-9]{{0,4}}))?"  # no userinfo
    r"(/[!#-\[\]-~]*)?",  # printable ASCII but quotes and backslashes; the authority ends at a slash or the end
    re.IGNORECASE | re.ASCII,
)
# https://url.spec.whatwg.org/#ends-in-a-number-checker: such a host is an IPv4 address in some notation.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class UrlPolicy:
    """What a model's configuration says about URLs in its prompts."""

    mode: Literal["off", "pass", "fetch"] = "off"
    """Only data: URLs; also https URLs, for the container; also URLs that the gateway fetches."""
    hosts: tuple[str, ...] = ()
    """Names a URL may have, in lower case; `*.example.com` stands for its subdomains. With `fetch`, none means all."""
    http: bool = False
    """Plain http may be fetched."""
    ports: tuple[int, ...] = ()
    """Ports that may be fetched from besides 443 and 80."""

    @property
    def of_container(self) -> UrlPolicy:
        """What may be handed to a container as it is, past the gateway's own fetching."""
        return self if self.mode == "pass" else DATA_ONLY


DATA_ONLY = UrlPolicy()


@dataclass(frozen=True, slots=True)
class Remote:
    """A URL taken apart."""

    scheme: str
    host: str
    """A name in lower case, or an address in its one usual notation."""
    port: int
    target: str
    """Path and query, as written; at least a slash."""
    is_address: bool

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == USUAL_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def check_media_url(url: str, kind: Kind, path: str, policy: UrlPolicy, max_pixels: int | None) -> str | None:
    """Pass `url` or raise; return what the bytes of an image in a data: URL say it is, None for every other URL.

    Raises:
        BadRequest: it is neither a data: URL of a known type nor a URL this model takes, or an image that is none.
    """
    if url.startswith("data:"):
        for prefix in _DATA_PREFIXES[kind]:
            if url.startswith(prefix):
                data = url[len(prefix) :]
                check_base64(data, path)
                return _check_image(data, path, max_pixels) if kind == "image" else None
        raise wrong_value(path, f"must be the base64 data: URL of a {NAMES[kind]}")
    if policy.mode == "off":
        raise wrong_value(path, "must be a data: URL: this model does not fetch URLs")
    if len(url) > MAX_URL_CHARS:
        raise wrong_value(path, f"must be at most {MAX_URL_CHARS} characters long")
    remote = parse(url)
    if remote is None:
        raise wrong_value(path, "must be a data: URL, or a plain https URL without user or unusual characters")
    fault = refusal(remote, policy)
    if fault is not None:
        raise wrong_value(path, f"must be a data: URL, or {fault}")
    return None


def parse(url: str) -> Remote | None:
    """Take an http or https URL apart, or return None for one that two parsers could read differently."""
    found = _URL.fullmatch(url) if len(url) <= MAX_URL_CHARS else None
    if found is None:
        return None
    scheme, name, address, port, target = found.groups()
    scheme, host = scheme.lower(), (address or name).lower()
    number = int(port) if port else USUAL_PORTS[scheme]
    is_address = address is not None or _NUMBER.fullmatch(host) is not None
    if is_address:
        host = _six(host) if address is not None else _four(host)
    if not host or len(host) > 253 or number > 65_535:
        return None
    return Remote(scheme, host, number, (target or "/").partition("#")[0], is_address)


def refusal(remote: Remote, policy: UrlPolicy) -> str | None:
    """Return what a URL must be that this one is not, as words that follow “must be a data: URL, or”; None if it may
    pass. Where a name leads is another question."""
    if policy.mode == "pass":
        if remote.scheme != "https" or remote.port != 443:
            return "a plain https URL without another port"
        if remote.is_address or not _is_named(remote.host, policy.hosts):
            return "name a host this model may fetch from"
        return None
    if remote.scheme != "https" and not policy.http:
        return "an https URL"
    if remote.port not in (443, 80, *policy.ports):
        return "have no unusual port"
    if policy.hosts and not _is_named(remote.host, policy.hosts):
        return "name a host this model may fetch from"
    return None


def check_base64(text: str, path: str) -> None:
    """Pass `text` if it is padded base64 of at least one byte.

    Raises:
        BadRequest: it is not.
    """
    digits = text.rstrip("=")
    if (
        not digits
        or len(text) % 4
        or len(text) - len(digits) > 2
        or not digits.isascii()
        or digits.encode("ascii").translate(None, _BASE64)
    ):
        raise wrong_value(path, "must hold base64, padded, without line breaks")


def too_many_pixels(width: int, height: int, max_pixels: int) -> str:
    """Say so, as words that follow the path of an image."""
    return f"has {width} × {height} pixels, more than the {max_pixels} that this model takes"


def _check_image(data: str, path: str, max_pixels: int | None) -> str:
    header = measure(window_of_base64(data))
    if header is None:
        raise wrong_value(path, f"must hold a {NAMES['image']}, and does not begin like one")
    if max_pixels is not None and header.pixels > max_pixels:
        raise wrong_value(path, too_many_pixels(header.width, header.height, max_pixels))
    return header.media_type


def _is_named(host: str, hosts: tuple[str, ...]) -> bool:
    return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in hosts)


def _six(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        return ""


def _four(text: str) -> str:
    """Return in its usual notation an IPv4 address that is written in one to four decimal, octal or hex numbers.

    https://url.spec.whatwg.org/#concept-ipv4-parser
    """
    parts = text.split(".")
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        return ""
    *leading, last = numbers
    if len(leading) > 3 or any(number > 255 for number in leading) or last >= 256 ** (4 - len(leading)):
        return ""
    return str(ipaddress.IPv4Address(sum(number << 8 * (3 - at) for at, number in enumerate(leading)) + last))


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8) if text.startswith("0") and len(text) > 1 else int(text)
