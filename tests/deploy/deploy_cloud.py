"""What tests of lmi-deploy share: manifests, an AWS to apply them to, and the command line to do it with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import boto3

from tests.deploy.deploy_edge import Edge, Ran, backend, reset_moto, run
from tests.deploy.deploy_sagemaker import REGION, SageMaker

CANARY = "hf_CANARY0123456789"
MANIFEST = """\
name: chat
region: us-east-1
role: arn:aws:iam::123456789012:role/sagemaker
model: {id: Qwen/Qwen3-4B, token: {secret: hub}}
container: {kind: lmi, version: 27}
instances: {type: ml.g5.2xlarge, count: 1}
scaling: {min: 1, max: 4, concurrency_per_copy: 8}
schedules:
  - {name: night, when: "cron(0 20 * * ? *)", min: 1, max: 1}
update: {strategy: canary, percent: 25, rollback: {server_errors_per_minute: 5}}
tags: {team: search}
prices: {ml.g5.2xlarge: 1.5}
"""
COMPONENTS = """\
name: shared
region: us-east-1
role: arn:aws:iam::123456789012:role/sagemaker
instances: {type: ml.g5.12xlarge, count: 1}
components:
  - name: shared-small
    model: {id: Qwen/Qwen3-4B}
    container: {kind: lmi, version: 27}
    memory_mb: 4096
    accelerators: 1
    scaling: {min: 0, max: 2, concurrency_per_copy: 8}
    option: {enable_lora: true}
    adapters: [{name: shared-small-law, artifact: "s3://bucket/law.tar.gz"}]
  - name: shared-large
    model: {id: Qwen/Qwen3-8B}
    container: {kind: lmi, version: 27}
    memory_mb: 8192
    accelerators: 2
"""
KEYS = {
    "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}


class Cloud:
    """AWS, a manifest in a file, and the command line."""

    def __init__(self, edge: Edge, url: str, folder: Path) -> None:
        self.edge = edge
        self.url, self._folder = url, folder
        self.file = folder / "chat.yaml"
        self.empty()

    def empty(self) -> None:
        """Begin anew, with nothing there but a secret."""
        reset_moto()
        self.edge.sagemaker = SageMaker()
        self.client("secretsmanager").create_secret(Name="hub", SecretString=CANARY)
        self.edge.forget()

    def kept(self) -> dict[str, Any]:
        """Return a copy of all that is there."""
        scaling, watching = backend("application-autoscaling"), backend("cloudwatch")
        return copy.deepcopy(
            {
                "things": self.edge.sagemaker.things,
                "scaling": (scaling.targets, scaling.policies, scaling.scheduled_actions),
                "alarms": watching.alarms,
                "tags": watching.tagger,
            }
        )

    def restore(self, kept: dict[str, Any]) -> None:
        """Begin anew with what was kept."""
        self.empty()
        kept = copy.deepcopy(kept)
        scaling, watching = backend("application-autoscaling"), backend("cloudwatch")
        self.edge.sagemaker.things = kept["things"]
        scaling.targets, scaling.policies, scaling.scheduled_actions = kept["scaling"]
        watching.alarms, watching.tagger = kept["alarms"], kept["tags"]

    def client(self, service: str) -> Any:
        session = boto3.Session(KEYS["aws_access_key_id"], KEYS["aws_secret_access_key"], region_name=REGION)
        return session.client(service, endpoint_url=self.url)  # type: ignore[call-overload]  # a name, not a literal

    def run(self, manifest: str, command: str, *options: str, **environ: str) -> Ran:
        self.file.write_text(manifest)
        return self.command(command, str(self.file), *options, **environ)

    def command(self, *args: str, **environ: str) -> Ran:
        ran = run(self.edge, self.url, self._folder, *args, environ=environ)
        assert CANARY not in ran.out + ran.err
        assert "Traceback" not in ran.err
        return ran

    def apply(self, manifest: str, *options: str, **environ: str) -> Ran:
        return self.run(manifest, "apply", "--yes", "--poll", "0", "--no-smoke", *options, **environ)

    def destroy(self, manifest: str) -> Ran:
        return self.run(manifest, "destroy", "--yes", "--poll", "0")
