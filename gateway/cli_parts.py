"""What commands have in common: where the configuration is, and how a command fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO, Any

import click

from gateway.config.load import Config, load
from gateway.config.problems import ConfigError


class Failure(click.ClickException):
    """Ends the command with exit code 1 and its message, as it is, on stderr."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file or sys.stderr)


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration file; else LMI_GATEWAY_CONFIG, else ./gateway.yaml.",
)


def loaded_config(config: Path | None) -> Config:
    """Return the configuration.

    Raises:
        Failure: it is wrong, and this is how.
    """
    try:
        return load(config, os.environ)
    except ConfigError as error:
        raise Failure(str(error)) from None
