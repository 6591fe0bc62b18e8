"""What the commands have in common: reading the manifest, and errors in plain words in place of tracebacks."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

import click
from botocore.exceptions import BotoCoreError, ClientError

from deploy.aws import Aws, DeployError, plain
from deploy.desired import desired
from deploy.images import NoImage
from deploy.manifest import Manifest, load
from deploy.manifestfile import ManifestError
from deploy.progress import Progress, printable
from deploy.resources import Desired

INTERRUPTED = 130
"""The shell's code for what Ctrl-C has ended."""

F = TypeVar("F", bound=Callable[..., Any])


class Failure(click.ClickException):
    """Ends a command with exit code 1 and its message on stderr."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(printable(self.message), file=file or sys.stderr, err=True)


@dataclass(frozen=True, slots=True)
class Work:
    """What a command works with."""

    manifest: Manifest
    desired: Desired
    aws: Aws
    progress: Progress

    @property
    def endpoint(self) -> str:
        return self.desired.of("endpoint")[0].name


def manifest_argument(command: F) -> F:
    """Add the manifest and the region to a command."""
    command = click.option("--region", metavar="NAME", help="The AWS region, if the manifest names none.")(command)
    return click.argument("file", type=click.Path(path_type=Path))(command)


def patience_options(command: F) -> F:
    """Add to a command how it waits."""
    minutes, seconds = click.FloatRange(0, 24 * 60), click.FloatRange(0, 600)
    command = click.option(
        "--timeout", type=minutes, default=120.0, show_default=True, help="Minutes to wait for each state."
    )(command)
    return click.option(
        "--poll", type=seconds, default=20.0, show_default=True, help="Seconds between two looks, at most."
    )(command)


def work(file: Path, region: str | None) -> Work:
    """Return what a command on this manifest works with.

    Raises:
        Failure: the manifest is wrong.
    """
    try:
        manifest = load(file)
        if region and manifest.region and region != manifest.region:
            raise Failure(f"the manifest says {manifest.region}, --region says {region}")
        aws = Aws(manifest.region or region)
        wanted = desired(manifest, aws.region)
    except (ManifestError, DeployError, NoImage) as error:
        raise Failure(str(error)) from None
    except BotoCoreError as error:
        raise Failure(plain(error)) from None
    return Work(manifest, wanted, aws, Progress(aws))


def in_words(command: F) -> F:
    """Make a command end in a sentence whatever AWS says, and in what to do next after Ctrl-C.

    Goes around the function that is given `aws`, so that no secret which was read is in the sentence.
    """

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (DeployError, ClientError, BotoCoreError) as error:
            _fail(args, error)
        except KeyboardInterrupt:
            click.echo(
                "\ninterrupted: AWS goes on with what it has begun, and nothing is half made."
                " `lmi-deploy status` shows how things are; the same command goes on from there.",
                err=True,
            )
            sys.exit(INTERRUPTED)

    return guarded  # type: ignore[return-value]  # it has the same parameters


def _fail(args: tuple[Any, ...], error: Exception) -> NoReturn:
    given = args[0] if args else None
    words = given.aws.words(error) if isinstance(given, Work) else plain(error)
    raise Failure(words) from None
