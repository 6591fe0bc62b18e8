"""Each file of bad/ is named for its fault and begins with the exact problems it gives: `#= LINE:COLUMN: message`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import MAX_FILE_BYTES, load, parse
from gateway.config.problems import ConfigError

BAD = Path(__file__).parent / "bad"
PLACELESS = ("the file is empty",)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in sorted(BAD.glob("*.yaml"))])
def test_a_bad_file_gives_exactly_its_problems(path: Path) -> None:
    data = path.read_bytes()
    expected = [line[3:].decode() for line in data.splitlines() if line.startswith(b"#= ")]
    with pytest.raises(ConfigError) as raised:
        parse(data, "gateway.yaml", {})
    assert str(raised.value).split("\n") == [
        f"gateway.yaml{': ' if line in PLACELESS else ':'}{line}" for line in expected
    ]


def test_there_are_bad_files() -> None:
    assert len(list(BAD.glob("*.yaml"))) >= 60


def test_keys_and_passwords_in_wrong_places_are_not_repeated() -> None:
    canaries = ("Canary", "hunter2")
    told = []
    for path in sorted(BAD.glob("*.yaml")):
        data = path.read_bytes()
        if any(canary.encode() in data for canary in canaries):
            with pytest.raises(ConfigError) as raised:
                parse(data, "gateway.yaml", {})
            told.append(str(raised.value) + repr(raised.value.problems))
    assert len(told) == 4
    # The one exception is the part behind a blank, where a key cannot go on.
    assert not [text for text in told if "CanaryCanary" in text or "hunter2" in text]


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    with pytest.raises(ConfigError) as raised:
        load(path, {})
    assert str(raised.value) == f"{path}: no such file; name one with --config or LMI_GATEWAY_CONFIG"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, {})
    assert str(raised.value) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize(("more", "message"), [
    pytest.param(0, "expected a mapping with the key models, found text", id="at the limit it is read"),
    pytest.param(1, "larger than 1048576 bytes", id="above the limit"),
])  # fmt: skip
def test_the_size_of_a_file_is_bounded(tmp_path: Path, more: int, message: str) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(b"x" * (MAX_FILE_BYTES + more))
    with pytest.raises(ConfigError) as raised:
        load(path, {})
    assert raised.value.problems[0].message == message


def test_problems_of_the_environment_and_of_the_file_are_told_together() -> None:
    with pytest.raises(ConfigError) as raised:
        parse(b"models: []\n", "gateway.yaml", {"LMI_GATEWAY_PORT": "abc"})
    assert str(raised.value).split("\n") == [
        "gateway.yaml:1:9: models: expected a list with at least one entry, found an empty list",
        "LMI_GATEWAY_PORT: expected a whole number from 0 to 65535, found 'abc'",
    ]
