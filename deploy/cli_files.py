"""The commands that write files: export, for the gateway, and import, from what stands already."""

from __future__ import annotations

from pathlib import Path

import click
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from deploy import images
from deploy.aws import Aws, DeployError, plain
from deploy.cli_parts import Failure, manifest_argument
from deploy.export import export
from deploy.importing import CannotImport, Imported, imported
from deploy.importing_aws import standing
from deploy.importing_environment import from_environment, sections
from deploy.manifest import load
from deploy.manifestfile import ManifestError
from deploy.sections import Container

PLACEHOLDERS = {
    "name": "imported",
    "role": "arn:aws:iam::123456789012:role/sagemaker-execution",
    "instances": {"type": "ml.g5.12xlarge"},
}


@click.command("export")
@manifest_argument
def export_command(file: Path, region: str | None) -> None:
    """Print the gateway's models file for a manifest."""
    try:
        manifest = load(file)
        if manifest.region is None and region is None:
            region = Aws().region
        click.echo(export(manifest, region), nl=False)
    except ManifestError as error:
        raise Failure(str(error)) from None
    except BotoCoreError as error:
        raise Failure(plain(error)) from None


def _container(context: click.Context, parameter: click.Parameter, value: str | None) -> Container | None:
    if value is None:
        return None
    kind, _, version = value.partition(":")
    try:
        container = Container.model_validate({"kind": kind, "version": version})
        images.tag(container.kind, container.version)
    except (ValidationError, images.NoImage):
        raise click.BadParameter("expected a kind and a version, such as lmi:18, vllm:0.25 or tgi:3.3") from None
    return container


@click.command("import")
@click.argument("endpoint", required=False)
@click.option("--region", metavar="NAME", help="The AWS region of the endpoint, if not boto3's.")
@click.option(
    "--environment",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read this file in place of an endpoint: a container's environment, or LMI's serving.properties.",
)
@click.option(
    "--container",
    metavar="KIND:VERSION",
    callback=_container,
    help="What is in the image, where it does not tell; with --environment, what the manifest is to run.",
)
@click.option("--from-lmi", type=click.IntRange(5, 28), help="With --environment: the LMI version it was written for.")
def import_command(
    endpoint: str | None,
    region: str | None,
    environment: Path | None,
    container: Container | None,
    from_lmi: int | None,
) -> None:
    """Print a manifest for an endpoint that stands already, or for a container's environment."""
    if (endpoint is None) == (environment is None):
        raise click.UsageError("say either ENDPOINT or --environment FILE")
    if environment is not None:
        made = _of_file(environment, container or Container(kind="lmi", version="18"), from_lmi)
    else:
        made = _of_endpoint(str(endpoint), region, container)
    click.echo(made.text(), nl=False)


def _of_endpoint(endpoint: str, region: str | None, container: Container | None) -> Imported:
    aws = Aws(region)
    try:
        return imported(standing(aws, endpoint), container)
    except CannotImport as error:
        raise Failure(str(error)) from None
    except (DeployError, ClientError, BotoCoreError) as error:
        raise Failure(aws.words(error)) from None


def _of_file(path: Path, container: Container, from_lmi: int | None) -> Imported:
    try:
        environment = from_environment(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"{path}: {error}") from None
    older = from_lmi if from_lmi is not None and container.kind == "lmi" and from_lmi < int(container.version) else None
    own = sections(container, environment, None, {}, older)
    values = {"name": PLACEHOLDERS["name"], "role": PLACEHOLDERS["role"], **own.as_dict()}
    values["container"] = {"kind": str(container.kind), "version": container.version}
    values["instances"] = PLACEHOLDERS["instances"]
    if own.loading_s is not None:
        startup = min(max(own.loading_s + 60, 60), 3600)
        values["timeouts"] = {"startup_s": startup, "loading_s": own.loading_s}
    unsaid = "a file does not say name, role and instances: those here are made up"
    return Imported(values, (unsaid, *own.notes))
