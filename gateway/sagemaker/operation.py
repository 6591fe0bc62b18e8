"""The two operations' headers on one deployment, prepared for signing: names sorted, values in canonical form.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointWithResponseStream.html
"""

from __future__ import annotations

from gateway.config.models import Deployment

INFERENCE_ID = "x-amzn-sagemaker-inference-id"
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"

# Header of each deployment field that becomes one, and whether the streaming operation knows it.
CONFIGURED_HEADERS: tuple[tuple[str, str, bool], ...] = (
    ("custom_attributes", ATTRIBUTES, True),
    ("enable_explanations", "x-amzn-sagemaker-enable-explanations", False),
    ("inference_component", "x-amzn-sagemaker-inference-component", True),
    ("prefix_aware_id", "x-amzn-sagemaker-prefix-aware-id", True),
    ("session_id", "x-amzn-sagemaker-session-id", True),
    ("target_container_hostname", "x-amzn-sagemaker-target-container-hostname", True),
    ("target_model", "x-amzn-sagemaker-target-model", False),
    ("target_variant", "x-amzn-sagemaker-target-variant", True),
)


class Operation:
    """What is constant about one operation on one deployment."""

    __slots__ = ("_attributes", "_attributes_at", "after_id", "before_id", "front", "path", "traced")

    def __init__(self, deployment: Deployment, authority: str, *, stream: bool) -> None:
        suffix = "invocations-response-stream" if stream else "invocations"
        self.path = f"/endpoints/{deployment.endpoint}/{suffix}"
        accept = "x-amzn-sagemaker-accept" if stream else "accept"
        headers = {"content-type": "application/json", "host": authority, accept: "application/json"}
        for field, name, streams in CONFIGURED_HEADERS:
            value = getattr(deployment, field)
            if value is not None and (streams or not stream):
                headers[name] = " ".join(value.split())  # as the signature's canonical form wants it
        ordered = sorted(headers.items())
        self.front = [item for item in ordered if item[0] < "x-amz-security-token"]
        self.before_id = [item for item in ordered if "x-amz-security-token" < item[0] < INFERENCE_ID]
        self.after_id = [item for item in ordered if item[0] > INFERENCE_ID]
        self.traced = deployment.trace_context == "custom_attributes"
        self._attributes = headers.get(ATTRIBUTES)
        self._attributes_at = sum(item[0] < ATTRIBUTES for item in self.before_id)

    def before_id_with(self, traceparent: str) -> list[tuple[str, str]]:
        """Return `before_id` with the trace in CustomAttributes, before what is configured.

        Containers read that as if nothing stood before it: LMI takes the header apart at semicolons, and AWS' image of
        vLLM looks for `route=` and reads to the next comma or space; so behind a route a semicolon would be part of it.
        https://github.com/deepjavalibrary/djl-serving: serving/src/main/java/ai/djl/serving/http/RequestParser.java;
        https://github.com/aws/deep-learning-containers: scripts/vllm/sagemaker_serve.py
        """
        value = f"traceparent={traceparent}"
        own, at = self._attributes, self._attributes_at
        after = at if own is None else at + 1
        return [
            *self.before_id[:at],
            (ATTRIBUTES, value if own is None else f"{value};{own}"),
            *self.before_id[after:],
        ]
