"""`lmi-gateway usage`: what was used, read from Redis."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from gateway.cli_parts import Failure, config_option, loaded_config
from gateway.config.kinds import kind_of
from gateway.config.settings import RedisUrl, Settings

MEMORY = (
    "`limits_store: memory` keeps usage inside the gateway's process:"
    " read it from GET /admin/usage on the admin port, or count in Redis with `limits_store: redis`"
)


def _url(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    try:
        return None if url is None else TypeAdapter(RedisUrl).validate_python(url)
    except ValidationError:
        raise click.BadParameter(_expected_url()) from None


@click.command()
@config_option
@click.option("--redis-url", metavar="URL", callback=_url, help="The Redis; else that of the configuration.")
@click.option("--redis-prefix", metavar="TEXT", help="The prefix there; else that of the configuration.")
@click.option("--from", "first", metavar="DAY", help="The first day, such as 2026-01-31.  [default: 29 before --to]")
@click.option("--to", "last", metavar="DAY", help="The last day.  [default: today; days are in UTC]")
@click.option("--key", metavar="ID", help="Only usage of this key.")
@click.option("--team", metavar="NAME", help="Only usage of this team; '' for keys without one.")
@click.option("--model", metavar="NAME", help="Only usage of this model.")
@click.option("--group-by", metavar="A,B", help="Add up by day, key, team, model or some of them.  [default: all]")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def usage(
    config: Path | None,
    redis_url: str | None,
    redis_prefix: str | None,
    first: str | None,
    last: str | None,
    key: str | None,
    team: str | None,
    model: str | None,
    group_by: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Print what keys, teams and models have used: requests, tokens, seconds, money.

    With --redis-url and without --config no configuration is read.
    """
    # Imported late: the other commands need no client of Redis.
    from gateway.limits.usage import BadQuestion, Question, Report, Unreadable
    from gateway.limits.usage_formats import csv_text, json_text, table_text
    from gateway.limits.usage_redis import RedisBooks

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    try:
        question = Question.of(
            datetime.now(UTC).date(), first=first, last=last, by=group_by, key=key, team=team, model=model
        )
    except BadQuestion as error:
        hint = f"--{error.part.replace('_', '-')}"
        raise click.BadParameter(str(error), param_hint=hint) from None
    if redis_url is not None and config is None:
        settings = Settings(redis_url=redis_url)
    else:
        settings = loaded_config(config).settings
        if redis_url is None and settings.limits_store == "memory":
            raise Failure(MEMORY)
    source = "settings.redis_url" if redis_url is None else "--redis-url"
    try:
        books = RedisBooks(
            redis_url or settings.redis_url or "",
            prefix=settings.redis_prefix if redis_prefix is None else redis_prefix,
            ca_file=None if settings.redis_ca_bundle is None else str(settings.redis_ca_bundle),
        )
    except ValueError:  # its text may hold a part of the password
        raise Failure(f"{source}: {_expected_url()}") from None
    report = Report(question)
    try:
        asyncio.run(books.read(report))
    except Unreadable as error:
        raise Failure(f"usage cannot be read from {source}: {error}") from None
    if as_json:
        click.echo(json_text(report), nl=False)
    elif as_csv:
        click.echo(csv_text(report), nl=False)
    elif len(report):
        click.echo(table_text(report), nl=False)
    else:
        click.echo(f"No usage from {question.first} to {question.last}.")
    if report.skipped:
        click.echo(f"Entries passed over, as no gateway has written them: {report.skipped}", err=True)


def _expected_url() -> str:
    return f"expected {kind_of(RedisUrl).words}"
