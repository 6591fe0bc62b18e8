"""`lmi-gateway keys`: keys for the configuration file, and the keys in Redis."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import TypeAdapter, ValidationError

from gateway.auth.keys import digest, is_key, new_key
from gateway.auth.known import Known, known
from gateway.auth.records import MAX_OVERLAP_S, KeyRecord, made, rotated, shown
from gateway.cli_parts import Failure, config_option, loaded_config
from gateway.config.kinds import Kind, kind_of, kinds
from gateway.config.limits import Limits
from gateway.config.models import Key
from gateway.config.names import PublicName
from gateway.config.problems import path_of
from gateway.config.settings import RedisUrl, Settings
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.auth.registry import KeyRegistry

T = TypeVar("T")
MIN_FOREIGN_KEY_CHARS = 32
"""Keys made elsewhere are accepted from this length on: their digests must not be open to guessing."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_ROOT = Kind("mapping", "a mapping", section=KeyRecord)


@click.group()
def keys() -> None:
    """Make API keys and their digests, and look after those in Redis."""


@keys.command("new")
@click.option("--id", "id_", required=True, metavar="NAME", help="Names the key in logs.")
@click.option("--models", default="*", metavar="A,B", show_default=True, help="Models or aliases the key may use.")
def keys_new(id_: str, models: str) -> None:
    """Make a key: print it, this once, and the entry for the configuration's keys."""
    key = new_key()
    names = tuple(name.strip() for name in models.split(",") if name.strip())
    try:
        TypeAdapter(tuple[PublicName, ...]).validate_python(tuple(name for name in names if name != "*"))
        entry = Key(id=id_, digest=digest(key), models=names)
    except ValidationError as error:
        field = "id" if error.errors()[0]["loc"] == ("id",) else "models"
        words = kinds(Key)["id"].words if field == "id" else "model names with commas between them"
        raise click.BadParameter(f"expected {words}", param_hint=f"--{field}") from None
    click.echo("The key, shown this once:", err=True)
    click.echo(key)
    click.echo("The entry for `keys:` in the configuration:", err=True)
    click.echo(f"- id: {json.dumps(entry.id)}\n  digest: {entry.digest}\n  models: {json.dumps(entry.models)}")


@keys.command("digest")
def keys_digest() -> None:
    """Read a key from standard input and print its digest."""
    if sys.stdin.isatty():
        key = click.prompt("Key", hide_input=True, err=True)
    else:
        key = sys.stdin.buffer.read(4096).decode("utf-8", "replace").strip()
    if not is_key(key):
        if len(key) < MIN_FOREIGN_KEY_CHARS or not (key.isascii() and key.isprintable()) or " " in key:
            raise Failure(
                "not a key: expected sk-lmi- and 43 characters,"
                f" or at least {MIN_FOREIGN_KEY_CHARS} printable ASCII characters made elsewhere"
            )
        click.echo("not made by `lmi-gateway keys new`: make sure that it is random throughout", err=True)
    click.echo(digest(key))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the keys are, and what they may name."""

    settings: Settings
    known: Known | None
    """None without a configuration: then nobody knows."""

    def run(self, work: Callable[[KeyRegistry], Awaitable[T]]) -> T:
        """Return what `work` makes of the registry.

        Raises:
            Failure: Redis, or the registry, refuses.
        """
        from gateway.auth.registry import KeyRegistry  # imported late: the other commands need no client of Redis

        async def main() -> T:
            settings = self.settings
            registry = KeyRegistry(
                settings.redis_url or "", prefix=settings.redis_prefix, ca_bundle=settings.redis_ca_bundle
            )
            try:
                return await work(registry)
            finally:
                await registry.close()

        try:
            return asyncio.run(main())
        except GatewayError as error:
            raise Failure(error.message + (f" ({error.detail})" if error.detail else "")) from None


def _in_redis(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where the keys are, and how to print."""
    options = [
        config_option,
        click.option("--redis-url", metavar="URL", callback=_url, help="The Redis; else that of the configuration."),
        click.option("--redis-prefix", metavar="TEXT", help="The prefix there; else that of the configuration."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _url(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    try:
        return None if url is None else TypeAdapter(RedisUrl).validate_python(url)
    except ValidationError:
        raise click.BadParameter(f"expected {kind_of(RedisUrl).words}") from None


def _place(config: Path | None, redis_url: str | None, redis_prefix: str | None) -> _Place:
    given = {"redis_url": redis_url, "redis_prefix": redis_prefix}
    given = {name: value for name, value in given.items() if value is not None}
    if redis_url is not None and config is None:
        settings, names = Settings(), None
    else:
        loaded = loaded_config(config)
        settings, names = loaded.settings, known(loaded)
        if settings.redis_url is None and redis_url is None:
            raise Failure("the configuration has no redis_url: name one with --redis-url")
        if settings.keys_store != "redis":
            click.echo("keys_store is file: a gateway with this configuration looks for no keys in Redis", err=True)
    try:
        return _Place(Settings.model_validate({**settings.model_dump(), **given}), names)
    except ValidationError:
        raise click.BadParameter(
            f"expected {kinds(Settings)['redis_prefix'].words}", param_hint="--redis-prefix"
        ) from None


@keys.command("create")
@click.option("--id", "id_", required=True, metavar="NAME", help="Names the key in logs and books.")
@click.option("--models", default="*", metavar="A,B", show_default=True, help="Models or aliases the key may use.")
@click.option("--team", metavar="NAME", help="The team the key belongs to.")
@click.option("--priority", type=click.Choice(["high", "default", "low"]), help="Whose calls go first where they wait.")
@click.option("--expires", metavar="WHEN", help="From then on it is not valid: 90d, 12h, 2030-12-31 (UTC).")
@click.option("--network", "networks", multiple=True, metavar="CIDR", help="Where calls must come from; repeatable.")
@click.option("--metrics", is_flag=True, help="It has series of its own in the metrics.")
@click.option("--limit", "limits", multiple=True, metavar="NAME=N", help="requests_per_minute=60; repeatable.")
@click.option(
    "--shadow-limit", "shadow", multiple=True, metavar="NAME=N", help="One that is only observed; repeatable."
)
@click.option("--model-limit", "at_model", multiple=True, metavar="MODEL,NAME=N", help="At one model; repeatable.")
@_in_redis
def keys_create(
    id_: str,
    models: str,
    team: str | None,
    priority: str | None,
    expires: str | None,
    networks: tuple[str, ...],
    metrics: bool,
    limits: tuple[str, ...],
    shadow: tuple[str, ...],
    at_model: tuple[str, ...],
    config: Path | None,
    redis_url: str | None,
    redis_prefix: str | None,
    as_json: bool,
) -> None:
    """Make a key in Redis and print it, this once. Gateways know it within a second."""
    place, now = _place(config, redis_url, redis_prefix), time()
    by_model: dict[str, dict[str, Any]] = {}
    for text in at_model:
        model, _, limit = text.rpartition(",")
        by_model.setdefault(model, {"model": model}).update(_limits([limit], "--model-limit"))
    terms = {
        "id": id_,
        "models": [name.strip() for name in models.split(",") if name.strip()],
        "team": team,
        "priority": priority,
        "expires": None if expires is None else _time(expires, now),
        "networks": list(networks),
        "metrics": metrics,
        "limits": _limits(limits, "--limit"),
        "shadow_limits": _limits(shadow, "--shadow-limit"),
        "model_limits": list(by_model.values()),
    }
    try:
        record, key = made(terms, now)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path, words = path_of(found["loc"]), _ROOT.at(found["loc"]).words
        rule = found["msg"].removeprefix("Value error, ") if found["type"] == "value_error" else ""
        raise Failure(f"{path}: {rule}" if rule and words == "a mapping" else f"{path}: expected {words}") from None
    if place.known is not None:
        try:
            place.known.check(record)
        except GatewayError as error:
            raise Failure(f"{error.param}: {error.message}") from None
        if record.id in place.known.file_ids:
            raise Failure(f"There is a key {record.id!r} in the configuration file.")
    place.run(lambda registry: registry.create(record))
    _print_key(record, key, as_json)


@keys.command("list")
@_in_redis
def keys_list(config: Path | None, redis_url: str | None, redis_prefix: str | None, as_json: bool) -> None:
    """List the keys in Redis."""
    records, now = _place(config, redis_url, redis_prefix).run(lambda registry: registry.all()), time()
    if as_json:
        click.echo(json.dumps({"object": "list", "data": [shown(record, now) for record in records]}))
        return
    lines = [("ID", "STATUS", "MODELS", "TEAM", "CREATED", "EXPIRES")]
    for record in records:
        told = shown(record, now)
        lines.append(
            (
                record.id,
                told["status"],
                ", ".join(record.models),
                record.team or "-",
                _date(record.created),
                _date(record.expires),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@keys.command("show")
@click.argument("id_", metavar="ID")
@_in_redis
def keys_show(id_: str, config: Path | None, redis_url: str | None, redis_prefix: str | None, as_json: bool) -> None:
    """Show one key in Redis: everything but the key itself, which is not kept."""
    _print(_place(config, redis_url, redis_prefix).run(lambda registry: registry.get(id_)), as_json)


@keys.command("rotate")
@click.argument("id_", metavar="ID")
@click.option("--overlap", default="1h", metavar="TIME", show_default=True, help="How long the old key stays valid.")
@_in_redis
def keys_rotate(
    id_: str, overlap: str, config: Path | None, redis_url: str | None, redis_prefix: str | None, as_json: bool
) -> None:
    """Make a new key in place of an old one and print it, this once."""
    overlap_s = _duration_s(overlap)
    if overlap_s is None or overlap_s > MAX_OVERLAP_S:
        raise click.BadParameter("expected a time up to 365d, such as 0s, 15m or 24h", param_hint="--overlap")
    made_keys: list[str] = []

    def rotate(record: KeyRecord) -> KeyRecord:
        after, key = rotated(record, overlap_s, time())
        made_keys.append(key)
        return after

    record = _place(config, redis_url, redis_prefix).run(lambda registry: registry.change(id_, rotate))
    _print_key(record, made_keys[-1], as_json)


def _switch(word: str, about: str, *, disabled: bool) -> None:
    @keys.command(word, help=about)
    @click.argument("id_", metavar="ID")
    @_in_redis
    def command(id_: str, config: Path | None, redis_url: str | None, redis_prefix: str | None, as_json: bool) -> None:
        def switch(record: KeyRecord) -> KeyRecord:
            return record.model_copy(update={"disabled": disabled})

        _print(_place(config, redis_url, redis_prefix).run(lambda registry: registry.change(id_, switch)), as_json)


_switch("disable", "Make a key in Redis invalid for the time being.", disabled=True)
_switch("enable", "Make a disabled key valid again.", disabled=False)


@keys.command("revoke")
@click.argument("id_", metavar="ID")
@_in_redis
def keys_revoke(id_: str, config: Path | None, redis_url: str | None, redis_prefix: str | None, as_json: bool) -> None:
    """Delete a key in Redis for good. Every gateway refuses it within a second."""
    _place(config, redis_url, redis_prefix).run(lambda registry: registry.revoke(id_))
    click.echo(json.dumps({"id": id_, "object": "key", "deleted": True}) if as_json else f"revoked {id_}")


def _print_key(record: KeyRecord, key: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**shown(record, time()), "key": key}))
        return
    click.echo("The key, shown this once:", err=True)
    click.echo(key)


def _print(record: KeyRecord, as_json: bool) -> None:
    told = shown(record, time())
    if as_json:
        click.echo(json.dumps(told))
        return
    del told["object"]
    for name, value in told.items():
        if name in ("created", "expires", "previous_valid_until"):
            text = _date(value)
        elif isinstance(value, str):
            text = value
        else:
            text = "-" if value in (None, [], {}) else json.dumps(value)
        click.echo(f"{name.ljust(20)}  {text}")


def _date(unix_s: int | None) -> str:
    return "-" if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _limits(texts: Iterable[str], option: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in Limits.model_fields:
            names = ", ".join(Limits.model_fields)
            raise click.BadParameter(f"expected NAME=NUMBER with one of {names}", param_hint=option)
        if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", number):
            raise click.BadParameter(f"expected a number after {name}=, in plain decimal digits", param_hint=option)
        found[name] = float(number) if "." in number else int(number)
    return found


def _duration_s(text: str) -> int | None:
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    return int(found[1]) * _SECONDS[found[2]] if found else None


def _time(text: str, now: float) -> int:
    duration_s = _duration_s(text)
    if duration_s is not None:
        return int(now) + duration_s
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            "expected a time from now such as 90d or 12h, or a date such as 2030-12-31", param_hint="--expires"
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
