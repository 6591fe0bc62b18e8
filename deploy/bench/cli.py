"""The command line: `lmi-bench run` measures, `lmi-bench report` makes reports of what was measured.

Exit codes: 0 ok, 1 nothing could be measured, 2 an option is wrong, 130 interrupted (with what was measured so far).
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from deploy.bench import asked, compare, runfile, table
from deploy.bench.client import BadKey
from deploy.bench.dataset import BadFile
from deploy.bench.eventloop import run as run_loop
from deploy.bench.measure import Measured, Unanswered, measure
from deploy.bench.page import page
from deploy.bench.plan import Plan, Target
from deploy.bench.progress import progress
from deploy.bench.signing import AwsProblem
from deploy.bench.summary import Price, summarize
from deploy.bench.workers import WorkerFailed

PATH = click.Path(dir_okay=False, path_type=Path)
Command = Callable[..., Any]


class Failure(click.ClickException):
    """Nothing could be measured, or nothing be reported."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure endpoints of language models."""


def _judging(command: Command) -> Command:
    """Add the options that `run` and `report` share."""
    options = (
        click.option("--slo", help="Service level for goodput, such as ttft=500ms,itl=50ms; also tpot, gap and e2e."),
        click.option("--instance-price", type=click.FloatRange(0, min_open=True), help="Price of an instance-hour."),
        click.option("--instances", type=click.IntRange(1), default=1, show_default=True, help="Instances it runs on."),
        click.option("--compare", "other", type=PATH, help="The JSON of an earlier run, to be compared with."),
        click.option("--csv", "csv_path", type=PATH, help="Write the figures as CSV."),
        click.option("--html", "html_path", type=PATH, help="Write a report with charts, one file."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@click.option("--model", help="Model as calls name it; needed with --url.")
@click.option("--url", help="Base URL of an OpenAI-compatible API, such as http://127.0.0.1:8080/v1.")
@click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True, help="Variable with the key for --url.")
@click.option("--endpoint", help="SageMaker endpoint that is called straight, with AWS credentials.")
@click.option("--region", envvar=["AWS_REGION", "AWS_DEFAULT_REGION"], help="Its Region.")
@click.option("--inference-component", help="Its inference component.")
@click.option("--variant", help="Its production variant.")
@click.option("--runtime-url", help="SageMaker's runtime, if it is not the Region's usual one.")
@click.option(
    "--container", type=click.Choice(["auto", "lmi", "vllm"]), default="auto", show_default=True, help="What it runs."
)
@click.option("--api", type=click.Choice(["chat", "completions"]), default="chat", show_default=True)
@click.option("--stream/--no-stream", default=True, show_default=True, help="Stream answers, or have them whole.")
@click.option("--concurrency", help="Closed loop: numbers of callers, such as 1,2,4,8.")
@click.option("--rate", help="Open loop: requests per second, such as 1,2,5.")
@click.option(
    "--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", show_default=True, help="With --rate."
)
@click.option(
    "--max-outstanding", type=click.IntRange(1, 100_000), default=10_000, show_default=True, help="With --rate."
)
@click.option("--duration", help="Of each stage's measured window; 30s without it and --requests.")
@click.option(
    "--requests", type=click.IntRange(1, 10_000_000), help="Measured calls of each stage, in place of a duration."
)
@click.option("--warmup", default="3s", show_default=True, help="Before each window; not measured.")
@click.option("--ramp", default="0s", show_default=True, help="Time in which the load rises, before the warm-up.")
@click.option("--timeout", "timeout_s", default="300s", show_default=True, help="Longest call.")
@click.option("--idle-timeout", "idle_timeout_s", default="120s", show_default=True, help="Longest silence in a call.")
@click.option("--connect-timeout", "connect_timeout_s", default="10s", show_default=True)
@click.option(
    "--input-tokens",
    default="512",
    show_default=True,
    help="Words of a prompt: 512, uniform:100:900, normal:512:64, lognormal:512:0.5.",
)
@click.option("--output-tokens", help="max_tokens, written likewise; 128 without it and --prompts.")
@click.option(
    "--ignore-eos", is_flag=True, help="Make answers exactly as long (ignore_eos and min_tokens, which vLLM knows)."
)
@click.option(
    "--shared-prefix",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of each prompt that is the same.",
)
@click.option(
    "--prefix-groups", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many different ones."
)
@click.option(
    "--prompts", "file", type=PATH, help="JSON lines of {messages|prompt, max_tokens}, or a file as ShareGPT's."
)
@click.option(
    "--images", type=click.IntRange(0, asked.MAX_IMAGES), default=0, show_default=True, help="Pictures in each chat."
)
@click.option("--image-size", default="512x512", show_default=True)
@click.option("--body", help="JSON object of further fields for every call.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed says the same at the same times.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Generating processes.")
@click.option("--ask-first/--no-ask-first", default=True, help="Make one call before, to see whether it works.")
@click.option("--label", help="Name of the run in reports.")
@click.option("--json", "json_path", type=PATH, help="Write the run, with every call.")
@_judging
def run(**options: Any) -> None:
    """Measure an endpoint, level by level."""
    slo, price = _slo(options["slo"]), _price(options)
    other = _read(options["other"]) if options["other"] else None
    plan = _plan(options)
    if not plan.target.stream and (never := sorted({*(slo or {})} - {"e2e"})):
        raise click.UsageError(f"--slo: whole answers have no {', '.join(never)}; --no-stream goes with e2e")
    _can_write(options)
    started = _now()
    with progress(plan.load, len(plan.stages)) as shown:
        try:
            measured = run_loop(measure(plan, options["processes"], shown, ask_first=options["ask_first"]))
        except (Unanswered, WorkerFailed, BadKey, BadFile, AwsProblem) as error:
            raise Failure(str(error)) from None
        except OSError as error:
            raise Failure(f"{plan.target.origin}: {error.strerror or error}") from None
    found = _run(measured, options, started, slo or {}, price)
    if options["json_path"]:
        _write(options["json_path"], lambda path: runfile.write(found, path))
    _report([found], other, options)
    if not found.complete:
        sys.exit(130)
    if not any(item.succeeded for item in found.summaries):
        raise Failure("no call succeeded")


@main.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
@_judging
def report(files: tuple[Path, ...], **options: Any) -> None:
    """Make table, CSV and HTML of runs anew."""
    slo, price = _slo(options["slo"]), _price(options)
    runs = [runfile.judged(_read(path), slo, price) for path in files]
    other = _read(options["other"]) if options["other"] else None
    _report(runs, other, options)


def _plan(options: dict[str, Any]) -> Plan:
    try:
        stages = asked.stages(options["concurrency"], options["rate"])
        prompts = asked.prompts(
            **{name: options[name] for name in (
                "input_tokens", "output_tokens", "shared_prefix", "prefix_groups", "file", "images", "image_size",
                "ignore_eos", "body", "api",
            )}
        )  # fmt: skip
        load = asked.load(
            **{name: options[name] for name in (
                "duration", "requests", "warmup", "ramp", "arrivals", "max_outstanding", "timeout_s", "idle_timeout_s",
                "connect_timeout_s",
            )}
        )  # fmt: skip
        return Plan(_target(options), prompts, load, stages, options["seed"])
    except asked.BadOption as error:
        raise click.UsageError(str(error)) from None
    except AwsProblem as error:
        raise Failure(str(error)) from None


def _target(options: dict[str, Any]) -> Target:
    api: Literal["chat", "completions"] = options["api"]
    if (options["url"] is None) == (options["endpoint"] is None):
        raise asked.BadOption("one of --url and --endpoint is needed, and only one")
    if options["url"] is not None:
        if given := [name for name in ("inference_component", "variant", "runtime_url") if options[name] is not None]:
            raise asked.BadOption(f"--{given[0].replace('_', '-')} goes with --endpoint")
        return asked.openai_target(options["url"], options["model"], api, options["stream"], options["api_key_env"])
    if not options["region"]:
        raise asked.BadOption("--endpoint needs --region, or AWS_REGION")
    return asked.sagemaker_target(
        options["endpoint"], options["region"], options["runtime_url"], options["model"], api, options["stream"],
        inference_component=options["inference_component"], variant=options["variant"], container=options["container"],
    )  # fmt: skip


def _run(
    measured: Measured, options: dict[str, Any], started: str, slo: dict[str, float], price: Price | None
) -> runfile.Run:
    target = measured.plan.target
    label = options["label"] or f"{target.model or 'model'} @ {target.endpoint or target.origin.partition('//')[2]}"
    stages = [runfile.StageResult(stage, summarize(stage, data, slo, price), data) for stage, data in measured.stages]
    return runfile.Run(
        label, started, _now(), measured.complete, _portable(measured.plan),
        runfile.environment(options["processes"]), stages,
        slo=slo, price=price,
    )  # fmt: skip


def _portable(plan: Plan) -> Plan:
    """Return the plan as a report shows it: of the file its name, not where it lies on this machine."""
    if plan.prompts.file is None:
        return plan
    prompts = msgspec.structs.replace(plan.prompts, file=Path(plan.prompts.file).name)
    return msgspec.structs.replace(plan, prompts=prompts)


def _report(runs: list[runfile.Run], other: runfile.Run | None, options: dict[str, Any]) -> None:
    for item in runs:
        click.echo(table.run_text(item) if item.stages else f"{item.label}: nothing was measured")
        click.echo()
    if other is not None:
        for item in runs:
            found = compare.compare(other, item)
            click.echo(f"{item.label} (after) beside {other.label} (before)")
            for doubt in compare.doubts(other, item):
                click.echo(f"WARNING: {doubt}")
            if found:
                click.echo(table.text_table(compare.compare_table(found)))
                click.echo(f"times in milliseconds. {compare.HOW}\n")
            else:
                click.echo("The two have no level in common.\n")
    if options["csv_path"]:
        text = table.csv_text(runs)
        _write(options["csv_path"], lambda path: path.write_text(text, encoding="utf-8"))
    if options["html_path"]:
        html = page(runs, other)
        _write(options["html_path"], lambda path: path.write_text(html, encoding="utf-8"))


def _can_write(options: dict[str, Any]) -> None:
    """Say before measuring what would go wrong after it."""
    for name in ("json_path", "csv_path", "html_path"):
        path: Path | None = options[name]
        if path is not None and not (
            path.parent.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK)
        ):
            raise click.UsageError(f"--{name.removesuffix('_path')}: {path} cannot be written")


def _write(path: Path, write: Callable[[Path], object]) -> None:
    try:
        write(path)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None


def _read(path: Path) -> runfile.Run:
    try:
        return runfile.read(path)
    except runfile.BadRun as error:
        raise Failure(str(error)) from None


def _slo(text: str | None) -> dict[str, float] | None:
    try:
        return asked.service_level(text)
    except asked.BadOption as error:
        raise click.UsageError(str(error)) from None


def _price(options: dict[str, Any]) -> Price | None:
    return None if options["instance_price"] is None else Price(options["instance_price"], options["instances"])


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    main()
