"""What fetched bytes are, by their first ones, and which media types a host may call them.

The signatures are those of https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern and
#matching-an-audio-or-video-type-pattern, and for MP3 and AAC frames of ISO/IEC 11172-3 and 13818-7.
"""

from __future__ import annotations

from adapters.openai.media import Kind
from adapters.openai.media_images import measure, window_of

_UNTYPED = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""What stores say of objects that nobody gave a type, S3 among them: their bytes alone tell."""
_IMAGES = frozenset({"image/png", "image/jpeg", "image/jpg", "image/pjpeg", "image/gif", "image/webp"})
_SOUNDS = frozenset(
    {"wav", "x-wav", "wave", "vnd.wave", "mpeg", "mp3", "x-mp3", "mp4", "m4a", "x-m4a", "aac", "aacp", "ogg", "opus"}
    | {"flac", "x-flac", "webm"}
)
_FILMS = frozenset({"mp4", "mpeg", "ogg", "webm", "quicktime", "x-matroska", "x-msvideo", "avi", "msvideo", "x-m4v"})
_TYPES: dict[Kind, frozenset[str]] = {
    "image": _IMAGES,
    # Containers hold either, and hosts go by the ending: a sound may be called a film.
    "audio": frozenset(f"audio/{name}" for name in _SOUNDS)
    | {"application/ogg", "video/mp4", "video/webm", "video/ogg"},
    "video": frozenset(f"video/{name}" for name in _FILMS) | {"application/ogg", "application/mp4"},
}


def type_may_be(content_type: str, kind: Kind) -> bool:
    """Tell whether a host's `content-type` is one that media of this kind may have."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type in _UNTYPED or media_type in _TYPES[kind]


def type_of(data: bytes, kind: Kind) -> str | None:
    """Return the media type for a data: URL of what `data` begins like, or None if that is not of this kind."""
    if kind == "image":
        header = measure(window_of(data))
        return None if header is None else header.media_type
    subtype = _sound(data) if kind == "audio" else _film(data)
    return None if subtype is None else f"{kind}/{subtype}"


def _sound(data: bytes) -> str | None:
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return "wav"
    if data.startswith(b"fLaC"):
        return "flac"
    if data.startswith(b"ID3"):
        return "mpeg"
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        # Eleven set bits open a frame; the layer bits that MPEG audio never has are AAC's.
        return "aac" if data[1] & 0xF6 == 0xF0 else "mpeg" if data[1] & 0x18 != 0x08 else None
    return _either(data)


def _film(data: bytes) -> str | None:
    if data.startswith(b"RIFF") and data[8:12] == b"AVI ":
        return "x-msvideo"
    if data.startswith((b"\0\0\1\xba", b"\0\0\1\xb3")):
        return "mpeg"
    if data[4:8] in (b"moov", b"mdat", b"wide") or data[4:12] == b"ftypqt  ":
        return "quicktime"
    return _either(data)


def _either(data: bytes) -> str | None:
    """Return the subtype of a container for sounds and films alike."""
    if data.startswith(b"OggS"):
        return "ogg"
    if data[4:8] == b"ftyp":
        return "mp4"
    # Matroska and WebM differ in a word further on; no reader minds.
    return "webm" if data.startswith(b"\x1aE\xdf\xa3") else None
