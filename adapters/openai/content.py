"""The messages of a chat: their shape, and what their parts may bring with them.

Part types are those vLLM acts upon (MM_PARSER_MAP in vllm/entrypoints/chat_utils.py, from 0.32 on in vllm/renderers;
0.8 to 0.33). vLLM also takes parts without a type, and a media key in a part of another type once the part has a
`uuid`; neither gets past here. No version takes OpenAI's `file` parts, and none acts upon an image's `detail`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from adapters.openai.caps import MAX_MEDIA_PARTS
from adapters.openai.duplicates import duplicate_name, twice
from adapters.openai.media import Kind, MediaPart
from adapters.openai.refusal import BadRequest, wrong_type, wrong_value
from adapters.openai.urls import check_base64, check_media_url

if TYPE_CHECKING:
    from adapters.openai.request import FieldPolicy

_TEXT_KEYS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
    "tool_reference": "name",
}
"""Part type → the key that holds its text."""
_MEDIA: dict[str, Kind] = {
    "image_url": "image",
    "input_image": "image",
    "audio_url": "audio",
    "input_audio": "audio",
    "video_url": "video",
}
_MEDIA_KEYS = frozenset({"image_url", "audio_url", "input_audio", "video_url", "image_pil", "file", "data"})
"""Keys from which a container takes media, whatever the part's type."""
_AUDIO_FORMATS = frozenset({"wav", "mp3", "mp4", "aac", "ogg", "opus", "flac", "webm", "m4a"})
_DETAILS = ("auto", "low", "high")
"""OpenAI's own; vLLM refuses others, though it does not act upon these."""

_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Contents:
    """What checked messages hold besides text."""

    media: tuple[MediaPart, ...] = ()
    """In the order of the messages. Embeddings are not among them."""
    part_types: frozenset[str] = frozenset()
    """Types of parts other than `text`."""


TEXT_ONLY = Contents()


def check_messages(messages: object, raw: msgspec.Raw, policy: FieldPolicy) -> Contents:
    """Check `messages` as decoded; `raw` is the same as the caller wrote it.

    Raises:
        BadRequest: its `param` is the path, such as `messages[2].content[0].image_url.url`.
    """
    if not isinstance(messages, list):
        raise wrong_type("messages", "an array", messages)
    if not messages:
        raise wrong_value("messages", "must not be empty")
    with_media: list[int] = []
    media: list[MediaPart] = []
    types: set[str] = set()
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise wrong_type(f"messages[{number}]", "an object", message)
        role = message.get("role")
        if not isinstance(role, str):
            if role is None:
                path = f"messages[{number}].role"
                raise BadRequest(f"The field {path} is required.", path, "missing_required_parameter")
            raise wrong_type(f"messages[{number}].role", "a string", role)
        content = message.get("content")
        if isinstance(content, list):
            if _check_parts(content, number, policy, media, types):
                with_media.append(number)
        elif content is not None and not isinstance(content, str):
            raise wrong_type(f"messages[{number}].content", "a string or an array of parts", content)
    if with_media:
        if len(media) > MAX_MEDIA_PARTS and "messages" not in policy.allow_fields:
            most = f"must hold at most {MAX_MEDIA_PARTS} images, sounds and films, not {len(media)}"
            raise wrong_value("messages", most)
        raw_messages = _raw_list(raw)
        for number in with_media:
            _check_single(raw_messages[number], f"messages[{number}]")
    return Contents(tuple(media), frozenset(types)) if types else TEXT_ONLY


def _check_parts(parts: list[Any], message: int, policy: FieldPolicy, media: list[MediaPart], types: set[str]) -> bool:
    """Check the parts of one message, add its media and their types; return whether some part is no text."""
    path = f"messages[{message}].content"
    other = False
    for number, part in enumerate(parts):
        if not isinstance(part, dict):
            raise wrong_type(f"{path}[{number}]", "an object", part)
        kind = part.get("type")
        text_key = _TEXT_KEYS.get(kind) if isinstance(kind, str) else None
        if text_key is not None:
            if not isinstance(part.get(text_key), str):
                raise wrong_type(f"{path}[{number}].{text_key}", "a string", part.get(text_key))
            if len(part) > 2:
                _check_keys(part, None, f"{path}[{number}]")
            if kind != "text":
                types.add(part["type"])
        else:
            other = True
            found = _check_media(part, kind, (message, number), policy)
            types.add(part["type"])
            if found is not None:
                media.append(found)
    return other


def _check_media(
    part: dict[str, Any], part_type: object, place: tuple[int, int], policy: FieldPolicy
) -> MediaPart | None:
    """Check a part that is no text; return it, or None for embeddings."""
    path = "messages[{}].content[{}]".format(*place)
    if part_type is None:
        raise BadRequest(f"The field {path}.type is required.", f"{path}.type", "missing_required_parameter")
    if not isinstance(part_type, str):
        raise wrong_type(f"{path}.type", "a string", part_type)
    if part_type.endswith("_embeds"):
        if part_type not in policy.allow_fields:
            raise _not_allowed(f"{path}.type", part_type)
        return None
    kind = _MEDIA.get(part_type)
    if kind is None or kind not in policy.modalities:
        hint = ": send its text, or its pages as images" if part_type == "file" else ""
        raise wrong_value(f"{path}.type", f"is {part_type[:64]!r}, which this model does not take{hint}")
    key = "image_url" if part_type == "input_image" else part_type
    _check_keys(part, key, path)
    payload = part.get(key)
    keys: tuple[str, ...] = (key,)
    holder = part
    if part_type != "input_image":
        path = f"{path}.{key}"
        if not isinstance(payload, dict):
            raise wrong_type(path, "an object", payload)
        _check_keys(payload, "data" if part_type == "input_audio" else None, path)
        if part_type == "input_audio":
            _check_sound(payload, path)
            return MediaPart(kind, *place, (key, "data"), payload["data"], remote=False)
        holder, payload, keys = payload, payload.get("url"), (key, "url")
    if "detail" in holder and holder["detail"] not in _DETAILS:
        raise wrong_value(f"{path}.detail", f"must be one of {', '.join(_DETAILS)}")
    path = f"{path}.{keys[-1]}"
    if not isinstance(payload, str):
        raise wrong_type(path, "a string", payload)
    media_type = check_media_url(payload, kind, path, policy.urls, policy.max_pixels)
    remote = policy.urls.mode == "fetch" and not payload.startswith("data:")
    return MediaPart(kind, *place, keys, payload, remote, media_type)


def _check_sound(sound: dict[str, Any], path: str) -> None:
    data, form = sound.get("data"), sound.get("format")
    if not isinstance(data, str):
        raise wrong_type(f"{path}.data", "a string", data)
    check_base64(data, f"{path}.data")
    if not isinstance(form, str):
        raise wrong_type(f"{path}.format", "a string", form)
    if form not in _AUDIO_FORMATS:
        raise wrong_value(f"{path}.format", f"must be one of {', '.join(sorted(_AUDIO_FORMATS))}")


def _check_keys(part: dict[str, Any], own: str | None, path: str) -> None:
    """Refuse keys that bring media past the part's type, or name media that some caller sent before."""
    for key in part:
        if key == "uuid" or key.endswith("_embeds"):
            raise _not_allowed(f"{path}.{key}", key)
        if key in _MEDIA_KEYS and key != own:
            raise wrong_value(f"{path}.{key[:64]}", "does not belong into a part of this type")


def _check_single(raw: msgspec.Raw, path: str) -> None:
    """Refuse names that occur twice in a message with media, in its parts and in what these hold."""
    for key, value in _single(raw, path).items():
        if key == "content":
            for number, part in enumerate(_raw_list(value)):
                for name, payload in _single(part, f"{path}.content[{number}]").items():
                    if bytes(payload).startswith(b"{"):
                        _single(payload, f"{path}.content[{number}].{name}")


def _single(raw: msgspec.Raw, path: str) -> dict[str, msgspec.Raw]:
    inner = _raw_object(raw)
    double = duplicate_name(bytes(raw), inner)
    if double is not None:
        raise twice(f"{path}.{double}")
    return inner


def _not_allowed(path: str, name: str) -> BadRequest:
    return BadRequest(f"The field {path} is not allowed: {name[:64]}.", path, "parameter_not_allowed")
