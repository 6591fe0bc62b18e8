"""The tables of docs/errors.md, metrics.md, tgi.md, tgi-containers.md and compatibility.md, made from the code.

`python -m tests.docs.tables` writes them anew. Cells that only people can fill are kept: whether to retry, and what a
metric is for; those of a new row are a question mark, which the tests refuse.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise

from prometheus_client.metrics_core import Metric

from adapters import errors as adapter_errors
from adapters import lmi_inputs
from adapters.base import Usage
from adapters.errors import ContainerFault, FaultKind
from adapters.tgi import behind_table
from adapters.tgi.behind_table import OLDEST, Fate, Row
from adapters.tgi.parameters import PARAMETERS
from gateway.errors import GatewayError, UpstreamFault
from gateway.faults import from_container
from gateway.http.docs_document import errors, summary_of
from gateway.http.tgi_errors import words_for
from gateway.sagemaker.errors import COMMON, MODELLED, fault, map_error
from gateway.telemetry.events import GAP_BUCKETS_S, CallRecord, Gaps, Try
from gateway.telemetry.prometheus import PrometheusTelemetry
from tests.docs import compatibility
from tests.docs.reading import DOCS, page, table

OPEN = "?"
Rows = list[list[str]]


def codes(before: Rows) -> Rows:
    retry = {row[0]: row[4] for row in before}
    rows = []
    for code, kind in errors().items():
        error = fault(kind, "", message="A sentence.") if issubclass(kind, UpstreamFault) else kind("A sentence.")
        link = f"[`{code}`](#{code})"
        wait = "–" if error.retry_after_s is None else str(error.retry_after_s)
        rows.append([link, str(kind.status), f"`{kind.type}`", summary_of(kind), retry.get(link, OPEN), wait])
    return [["Code", "Status", "Type", "When", "Retry", "Wait"], *rows]


def aws(_: Rows) -> Rows:
    rows = []
    for name in MODELLED | COMMON:
        rows.append([f"`{name}`", *_mapped(map_error(400, [(b"x-amzn-errortype", name.encode())], b"{}"))])
    return [["AWS error", "Code", "Retried"], *rows]


def statuses(_: Rows) -> Rows:
    """Statuses that mean the same stand together; of a hundred, what most of them mean is called "other"."""
    meanings = {status: _mapped(map_error(status, [], b"")) for status in range(201, 600)}
    usual = {family: meanings[family * 100 + 99] for family in (2, 3, 4, 5)}
    special: dict[tuple[str, str], list[str]] = {}
    for status, meaning in meanings.items():
        if meaning != usual[status // 100]:
            special.setdefault(meaning, []).append(str(status))
    rows = [[", ".join(found), *meaning] for meaning, found in sorted(special.items(), key=lambda item: item[1])]
    assert usual[2] == usual[3]
    return [
        ["Status", "Code", "Retried"],
        *rows,
        ["other 5xx", *usual[5]],
        ["other 4xx", *usual[4]],
        ["2xx, 3xx", *usual[2]],
    ]


def container(_: Rows) -> Rows:
    meanings = _docstrings_below_members(FaultKind)
    rows = [
        [f"`{kind}`", meanings[kind.name], *_mapped(from_container(ContainerFault(kind, "words")))]
        for kind in FaultKind
    ]
    return [["Kind", "Means", "Code", "Retried"], *rows]


def metrics(before: Rows) -> Rows:
    told = {row[0]: row[3:] for row in before}
    rows = []
    for metric in families():
        # A counter's name lacks the suffix it is written with; a histogram's `le` is no label of ours.
        name = f"`{metric.name}_total`" if metric.type == "counter" else f"`{metric.name}`"
        labels = ", ".join(f"`{label}`" for label in metric.samples[0].labels if label != "le")
        rows.append([name, metric.type, labels or "–", *told.get(name, [OPEN, OPEN])])
    return [["Metric", "Type", "Labels", "Series", "Meaning"], *rows]


NAMES = {
    "gateway_call_seconds": ("gen_ai.server.request.duration", "vllm:e2e_request_latency_seconds"),
    "gateway_time_to_first_token_seconds": (
        "gen_ai.server.time_to_first_token",
        "vllm:time_to_first_token_seconds",
    ),
    "gateway_inter_token_seconds": (
        "gen_ai.client.operation.time_per_output_chunk",
        "vllm:inter_token_latency_seconds",
    ),
    "gateway_time_per_output_token_seconds": (
        "gen_ai.server.time_per_output_token",
        "vllm:request_time_per_output_token_seconds",
    ),
    "gateway_tokens_total": (
        "gen_ai.client.token.usage",
        "vllm:prompt_tokens_total, vllm:generation_tokens_total",
    ),
    "gateway_limit_waiting": ("", "vllm:num_requests_waiting"),
    "gateway_upstream_in_flight": ("", "vllm:num_requests_running"),
    "gateway_phase_seconds": (
        "",
        "vllm:request_queue_time_seconds, vllm:request_prefill_time_seconds, vllm:request_decode_time_seconds",
    ),
}
"""What others call what a metric measures: OpenTelemetry, and vLLM."""


def names(_: Rows) -> Rows:
    def told(text: str) -> str:
        return ", ".join(f"`{name}`" for name in text.split(", ")) if text else "–"

    rows = [[f"`{name}`", told(conventional), told(engine)] for name, (conventional, engine) in NAMES.items()]
    return [["Metric", "OpenTelemetry", "vLLM"], *rows]


def families() -> list[Metric]:
    """Return every metric with some samples, in the order of registration."""
    telemetry = PrometheusTelemetry()
    for stream in (True, False):
        telemetry.call_began()
        record = CallRecord(surface="chat", request_id="r", began=0.0, model="m", stream=stream)
        record.usage, record.dropped, record.ending, record.first_event_s = Usage(1, 2, 1), 1, "complete", 0.1
        record.queue_s, record.measured, record.key_id = 0.1, True, "k"
        record.gaps, record.lane = Gaps([0] * (len(GAP_BUCKETS_S) + 1)), "d"
        telemetry.attempt_began("m", "d")
        record.tries.append(Try("d", 0.0, 0.1, 0.2, "ok", 200))
        telemetry.attempt("m", "d", "ok", lasts=stream)
        telemetry.call_ended(record)
    left = CallRecord("chat", "r", 0.0, model="m", lane="d", code="cancelled", stops=True, asked_tokens=9)
    left.tries.append(Try("d", 0.0, None, 0.2, "cancelled", 0))
    telemetry.call_began()
    telemetry.call_ended(left)
    telemetry.retried("m", "other")
    telemetry.resent("d")
    telemetry.media_fetched("ok", 0.1, 1)
    telemetry.media_cache("hit")
    telemetry.media_scaled("m")
    telemetry.usage_records("file", "written", 1)
    telemetry.upstream(1, {"default": (True, 1.0)})
    telemetry.credentials_failed("default")
    telemetry.traces.spans("exported", 1)
    telemetry.limits.limit_decision("key", "requests_per_minute", "refused")
    telemetry.limits.limit_waiting("m", 1)
    telemetry.limits.redis_latency(0.1)
    telemetry.limits.redis_failed("timeout")
    telemetry.limits.redis_state(True)
    telemetry.limits.decided_alone()
    found = list(telemetry.registry.collect())
    assert [metric.name for metric in found if not metric.samples] == [], "some metric was not reached"
    return found


def parameters(_: Rows) -> Rows:
    rows = [
        [f"`{name}`", known.default, known.becomes or ("–" if known.supported else "refused"), known.remark or "–"]
        for name, known in PARAMETERS.items()
    ]
    return [["Parameter", "Default", "Becomes", "Remarks"], *rows]


def words(_: Rows) -> Rows:
    found: dict[tuple[str, int], list[str]] = {}
    for code, kind in errors().items():
        said = words_for(kind("A sentence."))
        if said.kind != code:
            found.setdefault((said.kind, said.status), []).append(f"[`{code}`](errors.md#{code})")
    rows = [[f"`{kind}`", str(status), ", ".join(codes)] for (kind, status), codes in sorted(found.items())]
    return [["Kind", "Status", "For"], *rows]


def taken(table: Mapping[str, Row]) -> Callable[[Rows], Rows]:
    """Return what makes the table of the fields a container takes; those with the same fate stand together."""

    def make(_: Rows) -> Rows:
        found: dict[tuple[str, str], list[str]] = {}
        for name, row in sorted(table.items(), key=lambda item: list(Fate).index(item[1].fate)):
            since = "–" if row.since == OLDEST else ".".join(map(str, row.since))
            becomes = f"`{row.becomes}`" if row.becomes not in ("", name) else str(row.fate)
            harmless = ", ".join(f"`{json.dumps(value)}`" for value in row.neutral) if row.fate is Fate.REFUSED else ""
            found.setdefault((becomes, since), []).append(f"`{name}` ({harmless})" if harmless else f"`{name}`")
        rows = [[", ".join(names), becomes, since] for (becomes, since), names in found.items()]
        return [["Field", "Becomes", "From version"], *rows]

    return make


def _fields(title: str, _: Rows) -> Rows:
    return compatibility.fields(title)


TABLES: dict[str, dict[str, Callable[[Rows], Rows]]] = {
    "errors.md": {"codes": codes, "aws": aws, "statuses": statuses, "container": container},
    "metrics.md": {"metrics": metrics, "names": names},
    "tgi.md": {"parameters": parameters, "words": words},
    "tgi-containers.md": {
        "native": taken(behind_table.GENERATE),
        "texts": taken(behind_table.COMPLETIONS),
        "chats": taken(behind_table.CHAT),
        "inputs": taken(lmi_inputs.COMPLETIONS),
        "parameters": taken(lmi_inputs.GENERATE),
    },
    "compatibility.md": {
        **{compatibility.slug(title): partial(_fields, title) for title in compatibility.sections()},
        "answers": compatibility.answers,
    },
}


def renewed(name: str) -> str:
    """Return a page with its tables made anew."""
    text = page(name)
    for title, make in TABLES[name].items():
        head, *rows = make(table(text, title))
        lines = [head, ["---"] * len(head), *rows]
        made = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        before, opening, rest = text.partition(f"<!-- table: {title} -->\n")
        text = f"{before}{opening}\n{made}\n\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return text


def _mapped(error: object) -> tuple[str, str]:
    assert isinstance(error, GatewayError)
    return f"`{error.code}`", "yes" if error.retryable else "no"


def _docstrings_below_members(kind: type) -> dict[str, str]:
    """Return the string that follows each member of an enumeration in its source."""
    classes = (node for node in ast.parse(inspect.getsource(adapter_errors)).body if isinstance(node, ast.ClassDef))
    body = next(node.body for node in classes if node.name == kind.__name__)
    found = {}
    for node, following in pairwise(body):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(following, ast.Expr):
            found[node.targets[0].id] = str(ast.literal_eval(following.value))
    return found


def main() -> None:
    for name in TABLES:
        text = renewed(name)
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
