"""One call to what was just made, by the gateway's own transport: a process of its own, as nothing here imports it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.aws import Aws, DeployError
from deploy.progress import printable

PROMPT = "Say hello."
TIMEOUT_S = 180.0
MAX_TOKENS = 16


def has_gateway() -> bool:
    """Tell whether the gateway is installed where this runs."""
    return importlib.util.find_spec("gateway") is not None


def asleep(aws: Aws, component: str) -> bool:
    """Tell whether a component has no copy now, so that a call to it could only fail."""
    reply = aws.sagemaker.describe_inference_component(InferenceComponentName=component)
    return bool(reply.get("RuntimeConfig", {}).get("CurrentCopyCount") == 0)


def through_gateway(models_file: str, model: str) -> str:
    """Return what `lmi-gateway call` says of a chat with `model` of a models file.

    Raises:
        DeployError: the call failed; this is what the gateway says.
    """
    with tempfile.TemporaryDirectory(prefix="lmi-deploy-") as folder:
        file = Path(folder) / "gateway.yaml"
        file.write_text(models_file, "utf-8")
        command = [sys.executable, "-m", "gateway", "call", "--config", str(file), "--model", model]
        command += ["--max-tokens", str(MAX_TOKENS), PROMPT]
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter and a command of this project
                command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise DeployError(f"the smoke call got no answer within {TIMEOUT_S:.0f} seconds") from None
    if done.returncode:
        raise DeployError(f"the smoke call failed: {printable(done.stderr.strip() or done.stdout.strip())}")
    return printable("\n".join(part.strip() for part in (done.stdout, done.stderr) if part.strip()))


def through_boto3(aws: Aws, endpoint: str, component: str) -> str:
    """Return the first bytes that an endpoint answers to a chat.

    Raises:
        ClientError: the call failed.
    """
    body = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": MAX_TOKENS}
    named = {"InferenceComponentName": component} if component else {}
    reply = aws.runtime.invoke_endpoint(
        EndpointName=endpoint, ContentType="application/json", Body=json.dumps(body).encode(), **named
    )
    return printable(reply["Body"].read(2000).decode("utf-8", "replace"))
