"""What the process that commands are forked from has loaded already: botocore's files, which take longest to read."""

from __future__ import annotations

import botocore.loaders
import botocore.session

import deploy.cli
import deploy.export
import deploy.smoke

__all__ = ["deploy"]

_loader = botocore.loaders.Loader()
_session = botocore.session.get_session()
_session.register_component("data_loader", _loader)
SERVICES = ("sagemaker", "application-autoscaling", "cloudwatch", "logs", "secretsmanager", "resourcegroupstaggingapi")
for _service in SERVICES:
    _session.create_client(
        _service, region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none"
    ).close()


def keep() -> None:
    """Let every session of this process read what was read before."""
    botocore.session.create_loader = lambda search_path_string=None: _loader
