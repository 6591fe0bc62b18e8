"""What a prompt may bring with it or make a container fetch: request forgery, types, and identities in caches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Surface
from adapters.errors import UnsupportedParameter
from adapters.openai.media import with_texts
from adapters.openai.request import BadRequest, FieldPolicy, check, read
from adapters.openai.urls import UrlPolicy, parse
from adapters.registry import make
from tests.adapters.calls import IMAGES, chat
from tests.support.pictures import GIF, JPEG, PNG_1, WEBP, data_url, png_header

ALL = ("text", "image", "audio", "video")
NAMED = ("img.example.com", "*.cdn.example.com")
HOSTS = FieldPolicy(modalities=ALL, urls=UrlPolicy("pass", NAMED))
FETCHED = FieldPolicy(modalities=ALL, urls=UrlPolicy("fetch"), max_pixels=1_000_000)


PNG = data_url("png", PNG_1)


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
    policy = FieldPolicy(modalities=("image",), urls=UrlPolicy("pass", ("127.0.0.1", "0x7f.1", "2130706433")))
    for host in policy.urls.hosts:
        assert refused(parts_of(image(f"https://{host}/a.png")), policy)[0] == "invalid_value"


def test_where_urls_are_off_every_one_but_data_is_refused() -> None:
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
        image(data_url("jpeg", JPEG)),
        image(data_url("jpg", JPEG)),
        image(data_url("gif", GIF)),
        image(data_url("webp", WEBP)),
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


# What the gateway fetches


@pytest.mark.parametrize(
    "url",
    [
        "http://img.example.com/a.png",
        "ftp://img.example.com/a.png",
        "file:///etc/passwd",
        "//img.example.com/a.png",
        "https:/img.example.com/a.png",
        "https:///a.png",
        "https://user@img.example.com/a.png",
        "https://user:secret@img.example.com/a.png",
        "https://img.example.com@127.0.0.1/a.png",
        "https://img.example.com\\@127.0.0.1/a.png",
        "https://img.example.com:8443/a.png",
        "https://img.example.com:22/a.png",
        "https://img.example.com:0443/a.png",
        "https://img.example.com:65579/a.png",
        "https://img.example.com:/a.png",
        "https://img.example.com?x",
        "https://img.example.com./a.png",
        "https://img..example.com/a.png",
        "https://img%2eexample.com/a.png",
        "https://a_b.example.com/a.png",
        "https://\u0131mg.example.com/a.png",
        "https://img\u3002example.com/a.png",
        "https://\u2460\u2461\u2466.0.0.1/a.png",
        "https://1.2.3.256/a.png",
        "https://1.2.3.4.5/a.png",
        "https://4294967296/a.png",
        "https://0x100000000/a.png",
        "https://09.1.1.1/a.png",
        "https://example.1/a.png",
        "https://[::1/a.png",
        "https://[::g]/a.png",
        "https://[fe80::1%25eth0]/a.png",
        "https://[v1.x]/a.png",
        "https://img.example.com/a b",
        "https://img.example.com/a\r\nHost: evil",
        "https://img.example.com/" + "a" * 4096,
        "https://" + "a" * 64 + ".example.com/",
        "https://" + "a." * 130 + "example.com/",
        "",
    ],
)
def test_a_url_that_two_parsers_could_read_differently_is_not_fetched(url: str) -> None:
    assert refused(parts_of(image(url)), FETCHED) == ("invalid_value", "messages[0].content[0].image_url.url")


@pytest.mark.parametrize(
    ("url", "taken_apart"),
    [
        pytest.param(
            "https://Img.Example.com/A%20b.png?x=/../y#z",
            ("https", "img.example.com", 443, "/A%20b.png?x=/../y", False),
            id="a name",
        ),
        pytest.param("HTTPS://img.example.com", ("https", "img.example.com", 443, "/", False), id="without a path"),
        pytest.param("https://img.example.com:443/", ("https", "img.example.com", 443, "/", False), id="its port"),
        pytest.param("https://img.example.com:80/", ("https", "img.example.com", 80, "/", False), id="the other port"),
        pytest.param("https://2130706433/", ("https", "127.0.0.1", 443, "/", True), id="one number"),
        pytest.param("https://0x7f000001/", ("https", "127.0.0.1", 443, "/", True), id="a hex number"),
        pytest.param("https://0X7F.1/", ("https", "127.0.0.1", 443, "/", True), id="two parts"),
        pytest.param("https://0177.0.0.1/", ("https", "127.0.0.1", 443, "/", True), id="octal"),
        pytest.param("https://017700000001/", ("https", "127.0.0.1", 443, "/", True), id="one octal number"),
        pytest.param("https://169.254.43518/", ("https", "169.254.169.254", 443, "/", True), id="three parts"),
        pytest.param("https://0/", ("https", "0.0.0.0", 443, "/", True), id="zero"),
        pytest.param("https://[64:FF9B::7F00:1]/", ("https", "64:ff9b::7f00:1", 443, "/", True), id="nat64"),
        pytest.param("https://[0:0:0:0:0:0:0:1]/x", ("https", "::1", 443, "/x", True), id="ipv6"),
    ],
)
def test_a_url_is_taken_apart_once(url: str, taken_apart: tuple[object, ...]) -> None:
    (part,) = chat(policy=FETCHED, messages=[{"role": "user", "content": [image(url)]}]).media
    assert (part.remote, part.text) == (True, url)
    remote = parse(url)
    assert remote is not None
    assert (remote.scheme, remote.host, remote.port, remote.target, remote.is_address) == taken_apart


@pytest.mark.parametrize(
    ("url", "policy", "passes"),
    [
        pytest.param("http://img.example.com/", UrlPolicy("fetch", http=True), True, id="http where allowed"),
        pytest.param("https://img.example.com:8443/", UrlPolicy("fetch", ports=(8443,)), True, id="a named port"),
        pytest.param("https://img.example.com/", UrlPolicy("fetch", NAMED), True, id="a named host"),
        pytest.param("https://a.cdn.example.com/", UrlPolicy("fetch", NAMED), True, id="a named host's subdomain"),
        pytest.param("https://cdn.example.com/", UrlPolicy("fetch", NAMED), False, id="that host itself"),
        pytest.param("https://evilcdn.example.com/", UrlPolicy("fetch", NAMED), False, id="a name that ends alike"),
        pytest.param("https://example.com/", UrlPolicy("fetch", NAMED), False, id="another host"),
        pytest.param("https://8.8.8.8/", UrlPolicy("fetch", NAMED), False, id="an address where hosts are named"),
        pytest.param("https://8.8.8.8/", UrlPolicy("fetch"), True, id="an address where none are"),
        pytest.param("https://0x7f.1/", UrlPolicy("fetch", ("127.0.0.1",)), True, id="a named address, spelled oddly"),
    ],
)
def test_what_a_model_fetches_is_its_configurations(url: str, policy: UrlPolicy, passes: bool) -> None:
    policies = FieldPolicy(modalities=("image",), urls=policy)
    if passes:
        assert chat(policy=policies, messages=[{"role": "user", "content": [image(url)]}]).media[0].remote
    else:
        assert refused(parts_of(image(url)), policies)[0] == "invalid_value"


# Images in data: URLs


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "does not begin like one", id="svg"),
        pytest.param(b"<html>", "does not begin like one", id="html"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", "does not begin like one", id="postscript"),
        pytest.param(b"BM" + bytes(60), "does not begin like one", id="bmp"),
        pytest.param(b"II*\0" + bytes(60), "does not begin like one", id="tiff"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "does not begin like one", id="a PNG without a header"),
        pytest.param(png_header(30_000, 30_000), "has 30000 × 30000 pixels", id="a bomb"),
        pytest.param(png_header(1_000_001, 1), "has 1000001 × 1 pixels", id="one too many"),
    ],
)
def test_what_a_container_would_choke_on_is_refused_by_its_header(data: bytes, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence) as caught:
        check(read(Surface.CHAT, parts_of(image(data_url("png", data)))), FETCHED)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "messages[0].content[0].image_url.url")


def test_pixels_up_to_the_limit_pass() -> None:
    call = chat(
        policy=FETCHED, messages=[{"role": "user", "content": [image(data_url("png", png_header(1_000, 1_000)))]}]
    )
    assert call.media[0].media_type == "image/png"


@pytest.mark.parametrize("detail", ["auto", "low", "high"])
def test_detail_is_passed_on(detail: str) -> None:
    part = {"type": "image_url", "image_url": {"url": PNG, "detail": detail}}
    call = chat(messages=[{"role": "user", "content": [part]}])
    assert f'"detail": "{detail}"'.encode() in bytes(call.raw["messages"])


@pytest.mark.parametrize("detail", ["medium", "", None, 1, ["low"]])
def test_a_detail_that_nobody_knows_is_refused(detail: object) -> None:
    part = {"type": "image_url", "image_url": {"url": PNG, "detail": detail}}
    assert refused(parts_of(part)) == ("invalid_value", "messages[0].content[0].image_url.detail")


def test_a_file_is_refused_with_what_to_send_instead() -> None:
    pdf = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
    with pytest.raises(BadRequest) as caught:
        check(read(Surface.CHAT, parts_of(pdf)), HOSTS)
    assert caught.value.message == (
        "messages[0].content[0].type is 'file', which this model does not take: send its text, or its pages as images."
    )


# By version


@pytest.mark.parametrize(
    ("container", "version", "part_type", "taken"),
    [
        pytest.param("lmi", "15", "thinking", False, id="thinking on 0.8"),
        pytest.param("vllm", "0.9", "thinking", False, id="thinking on 0.9"),
        pytest.param("lmi", "16", "thinking", True, id="thinking on 0.10"),
        pytest.param("lmi", "15", "input_text", False, id="input_text on 0.8"),
        pytest.param("vllm", "0.10", "input_text", True, id="input_text on 0.10"),
        pytest.param("lmi", "17", "output_text", False, id="output_text on 0.11"),
        pytest.param("lmi", "18", "output_text", True, id="output_text on 0.12"),
        pytest.param("lmi", "25", "tool_reference", False, id="tool_reference on 0.20"),
        pytest.param("vllm", "0.21", "tool_reference", True, id="tool_reference on 0.21"),
        pytest.param("lmi", "15", "refusal", True, id="refusal on 0.8"),
        pytest.param("lmi", "15", "text", True, id="text on 0.8"),
    ],
)
def test_a_part_of_a_type_that_a_version_does_not_know_is_refused(
    container: str, version: str, part_type: str, taken: bool
) -> None:
    key = {"thinking": "thinking", "refusal": "refusal", "tool_reference": "name"}.get(part_type, "text")
    call = chat(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": part_type, key: "b"}]}])
    adapter = make(container, version)
    if taken:
        assert part_type.encode() in adapter.encode(call, stream=False)
        return
    with pytest.raises(UnsupportedParameter, match=f"takes no parts of the type {part_type}") as caught:
        adapter.encode(call, stream=False)
    assert caught.value.param == "messages"


@pytest.mark.parametrize("version", ["15", "27"])
def test_images_sounds_and_films_are_as_old_as_the_oldest_version(version: str) -> None:
    parts = [
        image(PNG),
        {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,AAAA"}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
    ]
    call = chat(messages=[{"role": "user", "content": parts}])
    assert [part.kind for part in call.media] == ["image", "audio", "video", "audio"]
    assert json.loads(make("lmi", version).encode(call, stream=False))["messages"][0]["content"] == parts


# Other strings in their place

SPACED = b"""{"model": "m", "messages" : [ {"role":"system","content":"s"} ,
 {"content" :[ {"type":"text","text":"a \\" ] } , b"} , { "image_url":{"detail":"low","url" : "%s"},"type":"image_url" }
 , {"type":"input_audio","input_audio":{"format":"wav","data":"UklG"}}],"role":"user"}, {"role":"user","content":[
 {"type":"input_image","image_url":"%s", "\\u0064etail":"high"}]} ] }"""


def test_only_the_strings_that_change_are_written_anew() -> None:
    escaped = PNG.replace("/", "\\/").encode()
    call = check(read(Surface.CHAT, SPACED % (escaped, escaped)), FETCHED)
    first, sound, second = call.media
    assert [part.path for part in call.media] == [
        "messages[1].content[1].image_url.url",
        "messages[1].content[2].input_audio.data",
        "messages[2].content[0].image_url",
    ]
    before = bytes(call.raw["messages"])
    for texts, expected in (
        ({first: "one"}, before.replace(b'"%s"' % escaped, b'"one"', 1)),
        ({second: "two"}, b'"two"'.join(before.rsplit(b'"%s"' % escaped, 1))),
        ({second: "two", first: "one"}, before.replace(b'"%s"' % escaped, b'"one"', 1).replace(escaped, b"two")),
        ({sound: "BBBB"}, before.replace(b"UklG", b"BBBB")),
        ({}, before),
    ):
        changed = with_texts(call, texts)
        assert bytes(changed.raw["messages"]) == expected
        assert changed.values["messages"] == json.loads(expected)
        assert {name: raw for name, raw in changed.raw.items() if name != "messages"} == {
            name: raw for name, raw in call.raw.items() if name != "messages"
        }
    assert bytes(call.raw["messages"]) == before
    assert call.values["messages"] == json.loads(before)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_whatever_stands_around_a_string_stays(data: st.DataObject) -> None:
    messages: list[dict[str, Any]] = []
    for _ in range(data.draw(st.integers(1, 3))):
        content = [
            {"type": "text", "text": data.draw(st.text(max_size=9))}
            if data.draw(st.booleans())
            else {"type": "image_url", "image_url": {"url": PNG}, "x": data.draw(JSON)}
            for _ in range(data.draw(st.integers(0, 3)))
        ]
        messages.append({"x": data.draw(JSON), "role": "user", "content": content})
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
    body = json.dumps({"messages": messages, "model": "m"}, separators=separators).encode()
    call = check(read(Surface.CHAT, body), FieldPolicy(modalities=("image",), allow_fields=frozenset({"messages"})))
    chosen = {part: f"new {number}" for number, part in enumerate(call.media) if data.draw(st.booleans())}
    changed = with_texts(call, chosen)
    for part, text in chosen.items():
        messages[part.message]["content"][part.part]["image_url"]["url"] = text
    expected = json.dumps(messages, separators=separators).encode()
    assert bytes(changed.raw["messages"]) == expected
