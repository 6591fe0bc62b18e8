"""The command line: serve · check · call · keys · usage · import · dev · schema.

Exit codes: 0 ok, 1 the configuration or the start failed, 2 the command line itself is wrong.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from pydantic import TypeAdapter, ValidationError

from gateway import __version__
from gateway.cli_call import call
from gateway.cli_import import import_
from gateway.cli_keys import keys
from gateway.cli_parts import Failure, config_option, loaded_config
from gateway.cli_usage import usage
from gateway.config.containers import LMI_VERSIONS, completes_only
from gateway.config.kinds import kind_of
from gateway.config.load import Config, load
from gateway.config.models import Deployment, with_adapters
from gateway.config.names import PublicName
from gateway.config.problems import ConfigError
from gateway.config.settings import PREFIX, Host, Origin, Settings


def _host(_: click.Context, __: click.Parameter, host: str | None) -> str | None:
    try:
        return None if host is None else TypeAdapter(Host).validate_python(host)
    except ValidationError:
        raise click.BadParameter(f"expected {kind_of(Host).words}") from None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lmi-gateway", message="%(prog)s %(version)s")
def main() -> None:
    """An OpenAI-compatible gateway in front of Amazon SageMaker endpoints."""


@main.command()
@config_option
@click.option("--host", callback=_host, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), help="TCP port to listen on; 0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 256), help="Worker processes.")
@click.option("--insecure", is_flag=True, help="Serve although no API keys are configured.")
def serve(config: Path | None, host: str | None, port: int | None, workers: int | None, insecure: bool) -> None:
    """Serve the configured models; options win over variables, variables over the file."""
    given = {"HOST": host, "PORT": port, "WORKERS": workers, "INSECURE": "true" if insecure else None}
    # As variables, because worker processes read the configuration anew.
    os.environ |= {f"{PREFIX}{name}": str(value) for name, value in given.items() if value is not None}
    loaded = loaded_config(config)
    if not loaded.keys_possible and not loaded.settings.insecure:
        raise Failure(
            "no API keys are configured: make one with `lmi-gateway keys new --id NAME`,"
            " or allow every caller with --insecure"
        )
    from gateway.http import server  # imported late: the other commands need neither uvicorn nor AWS

    sys.exit(server.run(loaded, config))


@main.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(config: Path | None, as_json: bool) -> None:
    """Check the configuration and list the models; all that is wrong goes to stderr."""
    try:
        loaded = load(config, os.environ)
    except ConfigError as error:
        if as_json:
            click.echo(
                json.dumps({"ok": False, "problems": [dataclasses.asdict(problem) for problem in error.problems]})
            )
        raise Failure(str(error)) from None
    rows = _rows(loaded)
    if as_json:
        keys = [{"id": key.id, "models": list(key.models)} for key in loaded.keys]
        click.echo(json.dumps({"ok": True, "problems": [], "models": rows, "keys": keys}))
    else:
        click.echo(_table(rows))
    if not loaded.keys_possible and not loaded.settings.insecure:
        click.echo("no API keys are configured: the gateway will serve only with --insecure", err=True)


def _container(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    try:
        return None if url is None else TypeAdapter(Origin).validate_python(url)
    except ValidationError:
        raise click.BadParameter("expected a URL without a path, such as http://127.0.0.1:8081") from None


def _dialect(_: click.Context, __: click.Parameter, dialect: str | None) -> str | None:
    from gateway import dev as demo

    try:
        if dialect is not None:
            demo.container_of(dialect)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return dialect


def _model(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    try:
        return None if name is None else TypeAdapter(PublicName).validate_python(name)
    except ValidationError:
        raise click.BadParameter(f"expected {kind_of(PublicName).words}") from None


@main.command()
@click.option("--host", callback=_host, default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="TCP port; 0 takes a free one."
)
@click.option(
    "--container", metavar="URL", callback=_container, help="Serve a real container in place of the demo models."
)
@click.option(
    "--dialect",
    metavar="NAME",
    callback=_dialect,
    help=f"What that container is: lmi{LMI_VERSIONS[0]} to lmi{LMI_VERSIONS[-1]}, vllm, tgi, or a release: vllm-0.11.",
)
@click.option("--model", metavar="NAME", callback=_model, help="Public name of its model.  [default: container]")
@click.option(
    "--first-token-delay",
    type=click.FloatRange(0, 60),
    metavar="S",
    default=0.15,
    show_default=True,
    help="Seconds before the first token of a demo model's answer.",
)
@click.option(
    "--token-delay",
    type=click.FloatRange(0, 60),
    metavar="S",
    default=0.02,
    show_default=True,
    help="Seconds before each further one.",
)
@click.pass_context
def dev(
    context: click.Context,
    host: str,
    port: int,
    container: str | None,
    dialect: str | None,
    model: str | None,
    first_token_delay: float,
    token_delay: float,
) -> None:
    """Serve demo models of a SageMaker that runs on this machine; needs no AWS account. Ctrl-C ends both.

    With --container a real container, any server with GET /ping and POST /invocations, stands behind that SageMaker.
    """
    from gateway import dev as demo

    if container is None:
        if dialect or model:
            raise click.UsageError(f"{'--dialect' if dialect else '--model'} needs --container")
        plan = demo.Plan(first_token_delay_s=first_token_delay, token_delay_s=token_delay)
    elif dialect is None:
        raise click.UsageError(f"--container needs --dialect: {demo.DIALECTS}")
    else:
        for name in ("first_token_delay", "token_delay"):
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
                raise click.UsageError(f"--{name.replace('_', '-')} is for the demo models: a container has its pace")
        plan = demo.Plan((demo.Shown(model or "container", "container", dialect, container),))
    try:
        demo.main(host, port, sys.stdout, plan)
    except demo.DemoFailed as error:
        raise Failure(str(error)) from None


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from gateway.config.schema import json_schema_text

    click.echo(json_schema_text(), nl=False)


main.add_command(call)
main.add_command(keys)
main.add_command(usage)
main.add_command(import_)


def _rows(config: Config) -> list[dict[str, Any]]:
    return [
        {
            "name": model.name,
            "aliases": list(model.aliases),
            "deployments": [
                {
                    "container": deployment.container,
                    "version": deployment.version,
                    "endpoint": deployment.endpoint,
                    "region": deployment.region,
                    "weight": deployment.weight,
                    "notes": [
                        *_notes(deployment, config.settings),
                        *([f"adapter {adapter.served_name}"] if adapter and adapter.served_name else []),
                    ],
                }
                for deployment in model.deployments
            ],
        }
        for configured in config.models
        for model, adapter in with_adapters(configured)
    ]


def _notes(deployment: Deployment, settings: Settings) -> list[str]:
    """Return what sets a deployment apart from a plain endpoint."""
    url = deployment.endpoint_url or settings.sagemaker_endpoint_url
    told = {
        "weight 0: gets no calls": deployment.weight == 0,
        "schema tgi": deployment.schema == "tgi",
        "chats only": deployment.messages_api,
        "texts only": completes_only(deployment.container, deployment.version, messages_api=deployment.messages_api),
        "tokenizes": deployment.tokenizes,
        f"component {deployment.inference_component}": deployment.inference_component,
        f"variant {deployment.target_variant}": deployment.target_variant,
        f"container {deployment.target_container_hostname}": deployment.target_container_hostname,
        f"model {deployment.target_model}, whole replies only": deployment.target_model,
        f"served as {deployment.served_model_name}": deployment.served_model_name,
        "one session for every call": deployment.session_id,
        f"custom attributes {deployment.custom_attributes}": deployment.custom_attributes,
        "told of traces": deployment.trace_context != "none",
        f"role {deployment.role_arn}": deployment.role_arn,
        f"at {url}": url,
    }
    return [note for note, applies in told.items() if applies]


def _table(models: list[dict[str, Any]]) -> str:
    lines = [("MODEL", "ALIASES", "CONTAINER", "ENDPOINT", "REGION", "WEIGHT", "NOTES")]
    for model in models:
        for at, row in enumerate(model["deployments"]):
            name, aliases = (model["name"], ", ".join(model["aliases"]) or "-") if at == 0 else ("", "")
            container = f"{row['container']} {row['version']}"
            notes = "; ".join(row["notes"]) or "-"
            lines.append((name, aliases, container, row["endpoint"], row["region"], str(row["weight"]), notes))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
