"""What a prompt may bring with it or make a container fetch: request forgery, types, and identities in caches."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.base import Surface
from adapters.openai.request import BadRequest, FieldPolicy, check, read
from tests.adapters.calls import IMAGES, chat

PNG = "data:image/png;base64,iVBORw0KGgo="
HOSTS = FieldPolicy(
    modalities=("text", "image", "audio", "video"), image_hosts=("img.example.com", "*.cdn.example.com")
)


def parts_of(*parts: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": list(parts)}]}).encode()


def refused(body: bytes, policy: FieldPolicy = IMAGES) -> tuple[str, str | None]:
    with pytest.raises(BadRequest) as caught:
        check(read(Surface.CHAT, body), policy)
    return caught.value.code, caught.value.param


def image(url: object) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


FORGERIES = [
    "http://img.example.com/a.png",
    "HTTP://img.example.com/a.png",
    "ftp://img.example.com/a.png",
    "file:///etc/passwd",
    "//img.example.com/a.png",
    "img.example.com/a.png",
    "/etc/passwd",
    "gopher://img.example.com/",
    "https:img.example.com/a.png",
    "https:/img.example.com/a.png",
    "https:///img.example.com/a.png",
    "https://127.0.0.1/a.png",
    "https://127.1/a.png",
    "https://2130706433/a.png",
    "https://0x7f000001/a.png",
    "https://0x7f.1/a.png",
    "https://017700000001/a.png",
    "https://0177.0.0.1/a.png",
    "https://[::1]/a.png",
    "https://[::ffff:127.0.0.1]/a.png",
    "https://[fe80::1%25eth0]/a.png",
    "https://169.254.169.254/latest/meta-data/",
    "https://localhost/a.png",
    "https://example.com/a.png",
    "https://evil-img.example.com/a.png",
    "https://img.example.com.evil.com/a.png",
    "https://cdn.example.com/a.png",
    "https://evilcdn.example.com/a.png",
    "https://img.example.com@evil.com/a.png",
    "https://evil.com@img.example.com/a.png",
    "https://user:secret@img.example.com/a.png",
    "https://img.example.com:secret@evil.com/a.png",
    "https://img.example.com:8443/a.png",
    "https://img.example.com:80/a.png",
    "https://img.example.com:/a.png",
    "https://img.example.com:443:443/a.png",
    "https://img.example.com\\@evil.com/a.png",
    "https://evil.com\\@img.example.com/a.png",
    "https:\\\\img.example.com/a.png",
    "https://img.example.com/a\\..\\b",
    "https://img.example.com?@evil.com/",
    "https://img.example.com#@evil.com/",
    "https://img.example.com%2f@evil.com/",
    "https://img%2eexample.com/a.png",
    "https://img.example.com./a.png",
    "https://.img.example.com/a.png",
    "https://img..example.com/a.png",
    "https://-a.cdn.example.com/a.png",
    "https://a_b.cdn.example.com/a.png",
    "https://img.example.com\n/a.png",
    "https://img.example.com/a.png\r\nHost: evil.com",
    "https://img.example.com/a\tb",
    "https://img.example.com/a b",
    "https://img.example.com/\x00",
    "https://img.example.com/\x7f",
    " https://img.example.com/a.png",
    "https://img.example.com/a.png ",
    "https://img.example.com/é.png",
    "https://\u0131mg.example.com/a.png",  # a dotless i, which upper-cases to I
    "https://\uff49mg.example.com/a.png",  # a full-width letter, which normalises to i
    "https://img\u3002example.com/a.png",  # an ideographic full stop, which IDNA takes for a dot
    "https://KELVIN.cdn.example.com/a.png".replace("K", "\u212a"),
    "https://img.example.com/" + "a" * 4096,
    "https://" + "a." * 130 + "cdn.example.com/a.png",
    "https://" + "a" * 64 + ".cdn.example.com/a.png",
    "https://",
    "https:///",
    "",
]


@pytest.mark.parametrize("url", FORGERIES)
def test_a_url_to_anywhere_else_is_refused(url: str) -> None:
    assert refused(parts_of(image(url)), HOSTS) == ("invalid_value", "messages[0].content[0].image_url.url")


@pytest.mark.parametrize(
    "url",
    [
        "https://img.example.com/a.png",
        "https://img.example.com",
        "https://img.example.com/",
        "https://img.example.com:443/a.png?x=1&y=%20#z",
        "https://IMG.Example.COM/A.png",
        "HTTPS://img.example.com/a.png",
        "https://a.cdn.example.com/a@b:c/d.png",
        "https://a-b.c.cdn.example.com/a.png",
        "https://xn--bcher-kva.cdn.example.com/a.png",
        "https://1.cdn.example.com/a.png",
    ],
)
def test_a_url_to_a_named_host_is_sent_as_it_was_checked(url: str) -> None:
    call = check(read(Surface.CHAT, parts_of({"type": "text", "text": "?"}, image(url))), HOSTS)
    assert json.loads(bytes(call.raw["messages"]))[0]["content"][1]["image_url"]["url"] == url


def test_a_host_that_is_an_address_never_passes_even_if_named() -> None:
    policy = FieldPolicy(modalities=("image",), image_hosts=("127.0.0.1", "0x7f.1", "2130706433"))
    for host in policy.image_hosts:
        assert refused(parts_of(image(f"https://{host}/a.png")), policy)[0] == "invalid_value"


def test_without_named_hosts_every_url_but_data_is_refused() -> None:
    assert refused(parts_of(image("https://img.example.com/a.png"))) == (
        "invalid_value",
        "messages[0].content[0].image_url.url",
    )


@pytest.mark.parametrize(
    "url",
    [
        "data:text/html;base64,AAAA",
        "data:image/svg+xml;base64,AAAA",
        "data:image/bmp;base64,AAAA",
        "data:image/tiff;base64,AAAA",
        "data:application/octet-stream;base64,AAAA",
        "data:video/mp4;base64,AAAA",
        "data:,hello",
        "data:image/png,AAAA",
        "data:image/png;charset=utf-8;base64,AAAA",
        "data:image/png;base64,",
        "data:image/png;base64,@@@@",
        "data:image/png;base64,AAA",
        "data:image/png;base64,A===",
        "data:image/png;base64,AA=A",
        "data:image/png;base64,AA\nAA",
        "data:image/png;base64,AA-_",
        "data:image/png;base64,ÄÄÄÄ",
        "DATA:image/png;base64,AAAA",
        "data:IMAGE/PNG;base64,AAAA",
    ],
)
def test_a_data_url_must_be_an_image_in_base64(url: str) -> None:
    assert refused(parts_of(image(url)), HOSTS) == ("invalid_value", "messages[0].content[0].image_url.url")


@pytest.mark.parametrize(
    "part",
    [
        image(PNG),
        image("data:image/jpeg;base64,AAAA"),
        image("data:image/gif;base64,AA=="),
        image("data:image/webp;base64,AAA="),
        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
        {"type": "input_image", "image_url": PNG},
        {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,AAAA"}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
    ],
)
def test_media_the_model_takes_pass(part: dict[str, Any]) -> None:
    call = chat(messages=[{"role": "user", "content": [{"type": "text", "text": "?"}, part]}])
    assert call.values["messages"][0]["content"][1] == part


@pytest.mark.parametrize(
    ("part", "modalities"),
    [
        pytest.param(image(PNG), ("text",), id="an image"),
        pytest.param({"type": "input_audio", "input_audio": {}}, ("text", "image"), id="sound"),
        pytest.param({"type": "video_url", "video_url": {}}, ("text", "image"), id="a film"),
        pytest.param({"type": "file", "file": {"file_id": "f"}}, ("text", "image", "audio", "video"), id="a file"),
        pytest.param({"type": "hologram"}, ("text", "image", "audio", "video"), id="anything else"),
        pytest.param({"type": "image_pil", "image_pil": "x"}, ("text", "image"), id="an image of another library"),
    ],
)
def test_a_part_of_a_kind_the_model_does_not_take_is_named(part: dict[str, Any], modalities: tuple[str, ...]) -> None:
    body = parts_of({"type": "text", "text": "?"}, part)
    assert refused(body, FieldPolicy(modalities=modalities)) == ("invalid_value", "messages[0].content[1].type")


@pytest.mark.parametrize(
    ("part", "code", "path"),
    [
        pytest.param(
            {"image_url": {"url": PNG}}, "missing_required_parameter", ".type", id="vLLM takes parts without type"
        ),
        pytest.param({"type": None, "image_url": PNG}, "missing_required_parameter", ".type", id="type null"),
        pytest.param({"type": "image_url", "image_url": PNG}, "invalid_type", ".image_url", id="the url itself"),
        pytest.param({"type": "image_url"}, "invalid_type", ".image_url", id="nothing"),
        pytest.param(image(None), "invalid_type", ".image_url.url", id="url null"),
        pytest.param(image(["https://x"]), "invalid_type", ".image_url.url", id="a list of urls"),
        pytest.param({**image(PNG), "uuid": "u"}, "parameter_not_allowed", ".uuid", id="uuid: another's cached image"),
        pytest.param({"type": "text", "text": "a", "uuid": "u"}, "parameter_not_allowed", ".uuid", id="uuid on a text"),
        pytest.param(
            {"type": "image_url", "image_url": {"url": PNG, "uuid": "u"}},
            "parameter_not_allowed",
            ".image_url.uuid",
            id="uuid inside",
        ),
        pytest.param(
            {"type": "text", "text": "a", "image_url": {"url": "http://x"}},
            "invalid_value",
            ".image_url",
            id="under cover",
        ),
        pytest.param({**image(PNG), "video_url": {"url": "http://x"}}, "invalid_value", ".video_url", id="two media"),
        pytest.param(
            {"type": "image_embeds", "image_embeds": "AA"}, "parameter_not_allowed", ".type", id="image_embeds"
        ),
        pytest.param(
            {"type": "audio_embeds", "audio_embeds": "AA"}, "parameter_not_allowed", ".type", id="audio_embeds"
        ),
        pytest.param({"type": "prompt_embeds", "data": "AA"}, "parameter_not_allowed", ".type", id="prompt_embeds"),
        pytest.param(
            {"type": "text", "text": "a", "image_embeds": "AA"},
            "parameter_not_allowed",
            ".image_embeds",
            id="embeds aside",
        ),
        pytest.param(
            {"type": "input_audio", "input_audio": {"data": "A", "format": "wav"}},
            "invalid_value",
            ".input_audio.data",
            id="sound that is no base64",
        ),
        pytest.param(
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "../x"}},
            "invalid_value",
            ".input_audio.format",
            id="sound of an unknown format",
        ),
        pytest.param(
            {"type": "video_url", "video_url": {"url": "data:video/jpeg;base64,AAAA"}},
            "invalid_value",
            ".video_url.url",
            id="thousands of frames",
        ),
    ],
)
def test_a_part_cannot_smuggle(part: dict[str, Any], code: str, path: str) -> None:
    assert refused(parts_of({"type": "text", "text": "?"}, part), HOSTS) == (code, f"messages[0].content[1]{path}")


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        pytest.param(
            b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://evil","url":"%s"}}]}]',
            "messages[0].content[0].image_url.url",
            id="in the payload",
        ),
        pytest.param(
            b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://evil"},"image_url":{"url":"%s"}}]}]',
            "messages[0].content[0].image_url",
            id="in the part",
        ),
        pytest.param(
            b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://evil"}}],'
            b'"content":[{"type":"image_url","image_url":{"url":"%s"}}]}]',
            "messages[0].content",
            id="in the message",
        ),
    ],
)
def test_what_was_checked_cannot_be_shadowed_by_an_equal_name(messages: bytes, param: str) -> None:
    body = b'{"model":"m","messages":' + messages % PNG.encode() + b"}"
    assert refused(body) == ("duplicate_parameter", param)


def test_media_are_counted_over_all_messages() -> None:
    few = [{"role": "user", "content": [image(PNG)] * 32}] * 2
    assert chat(messages=few).values["messages"] == few
    many = [*few, {"role": "user", "content": [image(PNG)]}]
    assert refused(json.dumps({"model": "m", "messages": many}).encode()) == ("invalid_value", "messages")
    lifted = FieldPolicy(modalities=("image",), allow_fields=frozenset({"messages"}))
    assert chat(policy=lifted, messages=many).values["messages"] == many


def test_embeddings_pass_for_a_model_that_allows_them() -> None:
    policy = FieldPolicy(modalities=("image",), allow_fields=frozenset({"image_embeds"}))
    part = {"type": "image_embeds", "image_embeds": "AAAA"}
    assert chat(policy=policy, messages=[{"role": "user", "content": [part]}]).values["messages"][0]["content"] == [
        part
    ]


def test_media_in_a_later_message_of_any_role_are_checked() -> None:
    messages = [{"role": "system", "content": "a"}, {"role": "tool", "content": [image("http://169.254.169.254/")]}]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    assert refused(body) == ("invalid_value", "messages[1].content[0].image_url.url")
