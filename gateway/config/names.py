"""Names as the configuration takes them: those callers use, and those AWS does."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from gateway.config.kinds import Expected

MAX_PUBLIC_NAME = 128

PublicName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$"),
    Expected("a model name: a letter or digit, then at most 127 letters, digits or . _ : / @ + -"),
]
AwsName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$"),
    Expected("an AWS name: at most 63 letters, digits and hyphens, no hyphen first or last"),
]
