"""The messages of a chat: their shape, and what their parts may bring with them.

Part types are those vLLM acts upon (MM_PARSER_MAP in vllm/entrypoints/chat_utils.py, 0.8 to 0.33). vLLM also takes
parts without a type, and a media key in a part of another type once the part has a `uuid`; neither gets past here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from adapters.openai.caps import MAX_MEDIA_PARTS
from adapters.openai.duplicates import duplicate_name, twice
from adapters.openai.refusal import BadRequest, wrong_type, wrong_value
from adapters.openai.urls import Kind, check_base64, check_media_url

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

_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def check_messages(messages: object, raw: msgspec.Raw, policy: FieldPolicy) -> None:
    """Check `messages` as decoded; `raw` is the same as the caller wrote it.

    Raises:
        BadRequest: its `param` is the path, such as `messages[2].content[0].image_url.url`.
    """
    if not isinstance(messages, list):
        raise wrong_type("messages", "an array", messages)
    if not messages:
        raise wrong_value("messages", "must not be empty")
    with_media: list[int] = []
    media = 0
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
            found = _check_parts(content, f"messages[{number}].content", policy)
            if found:
                with_media.append(number)
                media += found
        elif content is not None and not isinstance(content, str):
            raise wrong_type(f"messages[{number}].content", "a string or an array of parts", content)
    if with_media:
        if media > MAX_MEDIA_PARTS and "messages" not in policy.allow_fields:
            raise wrong_value("messages", f"must hold at most {MAX_MEDIA_PARTS} images, sounds and films, not {media}")
        raw_messages = _raw_list(raw)
        for number in with_media:
            _check_single(raw_messages[number], f"messages[{number}]")


def _check_parts(parts: list[Any], path: str, policy: FieldPolicy) -> int:
    """Check the parts of one message; return how many of them are media."""
    media = 0
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
        else:
            media += 1
            _check_media(part, kind, f"{path}[{number}]", policy)
    return media


def _check_media(part: dict[str, Any], part_type: object, path: str, policy: FieldPolicy) -> None:
    if part_type is None:
        raise BadRequest(f"The field {path}.type is required.", f"{path}.type", "missing_required_parameter")
    if not isinstance(part_type, str):
        raise wrong_type(f"{path}.type", "a string", part_type)
    if part_type.endswith("_embeds"):
        if part_type not in policy.allow_fields:
            raise _not_allowed(f"{path}.type", part_type)
        return
    kind = _MEDIA.get(part_type)
    if kind is None or kind not in policy.modalities:
        raise wrong_value(f"{path}.type", f"is {part_type[:64]!r}, which this model does not take")
    key = "image_url" if part_type == "input_image" else part_type
    _check_keys(part, key, path)
    payload, path = part.get(key), f"{path}.{key}"
    if part_type == "input_image":
        url = payload
    else:
        if not isinstance(payload, dict):
            raise wrong_type(path, "an object", payload)
        _check_keys(payload, "data" if part_type == "input_audio" else None, path)
        if part_type == "input_audio":
            _check_sound(payload, path)
            return
        url, path = payload.get("url"), f"{path}.url"
    if not isinstance(url, str):
        raise wrong_type(path, "a string", url)
    check_media_url(url, kind, path, policy.image_hosts)


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
