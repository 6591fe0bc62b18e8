"""docs/keys.md says what is so."""

from __future__ import annotations

import json
import re

import yaml

from gateway.admin import keys as admin_keys
from gateway.admin.server import admin_app
from gateway.auth import failures, jwks, mirror, tokens
from gateway.auth.keys import digest, new_key
from gateway.auth.records import TERMS
from gateway.cli_keys import keys
from gateway.config.load import parse
from tests.docs.reading import page

PAGE = page("keys.md")
WORDS = " ".join(PAGE.split())
DIGEST = "sha256:" + "a1" * 32
MODELS = {"models": [{"name": "llama", "deployments": [
    {"endpoint": "e", "region": "us-east-1", "container": "lmi", "version": "27"}]}]}  # fmt: skip


def test_every_example_is_a_good_configuration() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        # No example has to be whole: a digest is cut short, and there are models in every configuration.
        given = {**MODELS, **yaml.safe_load(example.replace("sha256:…", DIGEST))}
        given["settings"] = {"redis_url": "redis://127.0.0.1", **given.get("settings", {})}
        parse(json.dumps(given).encode(), "keys.md", {})


def test_every_command_is_named() -> None:
    assert set(keys.commands) == set(re.findall(r"`(?:lmi-gateway )?keys (\w+)", PAGE)) | {"new", "digest"}
    options = {option for parameter in keys.commands["create"].params for option in parameter.opts}
    told = set(re.findall(r"--[a-z-]+", WORDS))
    assert options <= told | {"ID"}, options - told


def test_every_request_of_the_administration_is_named() -> None:
    settings = {"redis_url": "redis://127.0.0.1", "keys_store": "redis", "admin_key_digest": digest(new_key())}
    app = admin_app(parse(json.dumps({"settings": settings, **MODELS}).encode(), "keys.md", {}))
    served = {
        f"{method} {route.path.replace('{key_id:str}', '{id}').replace('{name:str}', '{file}')}"
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS"
    }
    told = set(re.findall(r"^\| `((?:GET|POST|PATCH|DELETE) /(?:admin/|metrics)[^`]*)`", PAGE, re.MULTILINE))
    rows = [line for line in page("console.md").splitlines() if line.startswith("| `")]
    told |= {name for row in rows for name in re.findall(r"`(GET /(?:admin|console)[^`?]*)", row.split(" | ")[0])}
    assert served == told | {"POST /admin/keys/{id}/enable"}
    row = next(line for line in PAGE.splitlines() if line.startswith("| `POST /admin/keys` |"))
    assert set(TERMS) <= set(re.findall(r"`(\w+)`", row))


def test_the_numbers_are_those_of_the_code() -> None:
    assert "after twenty at once, one a second" in WORDS
    assert (failures.BURST, failures.PER_S) == (20, 1.0)
    assert f"remembers {failures.MOST_ADDRESSES:,} addresses" in WORDS
    assert f"`overlap_s`, {admin_keys.OVERLAP_S} unless given" in WORDS
    assert f"at most {tokens.MAX_TOKEN_BYTES} bytes" in WORDS
    assert f"RSA keys below {jwks.MIN_RSA_BITS} bits" in WORDS
    assert "then at most every ten seconds" in WORDS
    assert jwks.WANTED_GAP_S == 10
    assert "asks about three times a second" in WORDS
    assert 0.25 <= mirror.POLL_S <= 0.4
