"""`lmi-gateway import`: models files made of other gateways' configurations."""

from __future__ import annotations

import os
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from gateway.cli_parts import Failure
from gateway.config.containers import faults
from gateway.config.kinds import kind_of
from gateway.config.litellm import Behind, Unreadable, converted, written
from gateway.config.load import MAX_FILE_BYTES, parse
from gateway.config.models import Deployment
from gateway.config.problems import ConfigError


@click.group("import")
def import_() -> None:
    """Make a models file of another gateway's configuration."""


def _region(_: click.Context, __: click.Parameter, region: str | None) -> str | None:
    annotation = Deployment.model_fields["region"].rebuild_annotation()
    try:
        return None if region is None else TypeAdapter(annotation).validate_python(region)
    except ValidationError:
        raise click.BadParameter(f"expected {kind_of(annotation).words}") from None


@import_.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--container",
    type=click.Choice(["lmi", "vllm", "tgi"]),
    required=True,
    help="The container behind the endpoints, which LiteLLM's configuration does not say.",
)
@click.option("--version", required=True, metavar="VERSION", help="Its version, such as 15 for lmi or 0.11 for vllm.")
@click.option("--region", metavar="REGION", callback=_region, help="The Region of entries that name none.")
def litellm(file: Path, container: str, version: str, region: str | None) -> None:
    """Print a models file of the SageMaker entries of a LiteLLM proxy's config.yaml.

    What is left out is said in the file's first lines, and on stderr. Nothing secret is written: the proxy's own key
    becomes a digest, AWS credentials stay behind.
    """
    for _, message in faults({"container": container, "version": version}):
        raise click.UsageError(message)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise Failure(f"{file}: larger than {MAX_FILE_BYTES} bytes")
        result = converted(data.decode(), Behind(container, version, region), os.environ)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Failure(f"{file}: not UTF-8") from None
    except Unreadable as error:
        raise Failure(f"{file}: {error}") from None
    text = written(result, file.name if file.name.isprintable() else "a file")
    click.echo(text, nl=False)
    for note in result.notes:
        click.echo(note, err=True)
    try:
        parse(text.encode(), "the models file", {})
    except ConfigError as error:
        raise Failure(f"the models file is not right yet:\n{error}") from None
