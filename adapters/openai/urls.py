"""Which URLs a caller may put into a prompt: a container fetches what they name, from inside the operator's network.

The rule is a list of what may pass, on the very string that is sent on, so that no two parsers can disagree about it
(CVE-2025-6242 and CVE-2026-24779 were such disagreements, on userinfo and on backslashes). data: URLs always may;
https URLs only to hosts the operator named.
"""

from __future__ import annotations

import re
from typing import Literal

from adapters.openai.refusal import wrong_value

MAX_HTTPS_URL_CHARS = 4096

Kind = Literal["image", "audio", "video"]

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
_NAMES: dict[Kind, str] = {
    "image": "PNG, JPEG, GIF or WebP image",
    "audio": "WAV, MP3, MP4, AAC, Ogg, Opus, FLAC or WebM sound",
    "video": "MP4, MPEG, Ogg, WebM, QuickTime, Matroska or AVI film",
}
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HTTPS = re.compile(
    rf"https://({_LABEL}(?:\.{_LABEL})*)(?::443)?"  # no userinfo, no other port, no percent signs
    r"(?:/[!#-\[\]-~]*)?",  # printable ASCII but quotes and backslashes; the authority ends at a slash or the end
    re.IGNORECASE | re.ASCII,
)
# https://url.spec.whatwg.org/#ends-in-a-number-checker: such a host is an IPv4 address in some notation.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)


def check_media_url(url: str, kind: Kind, path: str, hosts: tuple[str, ...]) -> None:
    """Pass `url` or raise.

    Args:
        hosts: names an https URL may have, in lower case; `*.example.com` stands for its subdomains.

    Raises:
        BadRequest: it is neither a data: URL of a known type nor an https URL to one of `hosts`.
    """
    if url.startswith("data:"):
        for prefix in _DATA_PREFIXES[kind]:
            if url.startswith(prefix):
                check_base64(url[len(prefix) :], path)
                return
        raise wrong_value(path, f"must be the base64 data: URL of a {_NAMES[kind]}")
    if not hosts:
        raise wrong_value(path, "must be a data: URL: this model does not fetch URLs")
    if len(url) > MAX_HTTPS_URL_CHARS:
        raise wrong_value(path, f"must be at most {MAX_HTTPS_URL_CHARS} characters long")
    found = _HTTPS.fullmatch(url)
    if found is None:
        raise wrong_value(path, "must be a data: URL, or a plain https URL without user, port or unusual characters")
    host = found[1].lower()
    if len(host) > 253 or _NUMBER.fullmatch(host) or not _is_named(host, hosts):
        raise wrong_value(path, "must be a data: URL, or name a host this model may fetch from")


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


def _is_named(host: str, hosts: tuple[str, ...]) -> bool:
    return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in hosts)
