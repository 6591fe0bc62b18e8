"""The local deployment target: SageMaker Runtime on this machine, for tests, benchmarks and trying things out.

    server ─▶ http1 httpreply                 connections and answers that can be broken
       ├────▶ control                         /_local/: faults in, records (calls) out
       └────▶ runtime                         the walk of one call
                ├ sigv4 awserrors members     who may call, what is refused, which headers pass
                ├ faultlist faults streamfaults faultbase       what is to go wrong, and with whom
                ├ faultanswers presets        answers that are faults; what LMI says when something is wrong
                ├ containerio                 container: httpcontainer, scripted, engine
                └ streaming ─▶ cutting, framefaults, eventstream

`python -m deploy.local --help` runs it; in a process of one's own it is `LocalSageMaker`.
"""

from deploy.local import faults
from deploy.local.calls import Call
from deploy.local.container import Container, ContainerReply, ContainerRequest
from deploy.local.runtime import Endpoint, Limits
from deploy.local.server import DEFAULT_REGION, DEMO_KEY, LocalSageMaker
from deploy.local.sigv4 import AccessKey

__all__ = [
    "DEFAULT_REGION",
    "DEMO_KEY",
    "AccessKey",
    "Call",
    "Container",
    "ContainerReply",
    "ContainerRequest",
    "Endpoint",
    "Limits",
    "LocalSageMaker",
    "faults",
]
