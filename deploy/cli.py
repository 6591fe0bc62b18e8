"""The command line: plan · apply · status · logs · destroy · export · import.

Exit codes: 0 ok, 1 something failed, 2 the command line itself is wrong, or `plan --detailed-exitcode` found changes,
130 interrupted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click

from deploy import smoke
from deploy.apply import Applier
from deploy.cli_files import export_command, import_command
from deploy.cli_parts import Failure, Work, in_words, manifest_argument, patience_options, work
from deploy.cost import read_prices
from deploy.logs import Line, follow, lines, since_s
from deploy.manifest import Component
from deploy.observe import observe
from deploy.plan import Plan
from deploy.plan import plan as planned
from deploy.progress import printable
from deploy.render import as_json, show
from deploy.status import as_json as status_json
from deploy.status import status as looked_up
from deploy.status import text as status_text
from deploy.waiting import Patience

prices_option = click.option(
    "--prices",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Dollars per hour by instance type, in YAML or JSON, over the manifest's.",
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Puts up SageMaker endpoints for lmi-gateway, from a manifest."""


@main.command()
@manifest_argument
@prices_option
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 if there is something to do.")
def plan(file: Path, region: str | None, prices: Path | None, in_json: bool, detailed_exitcode: bool) -> None:
    """Show what an apply would do. Changes nothing."""
    _plan(work(file, region), prices, in_json, detailed_exitcode)


@in_words
def _plan(with_: Work, prices: Path | None, in_json: bool, detailed_exitcode: bool) -> None:
    made = planned(with_.desired, observe(with_.desired, with_.aws), _prices(with_, prices))
    if in_json:
        click.echo(as_json(made), nl=False)
    else:
        show(made, sys.stdout)
    if made.conflicts:
        sys.exit(1)
    if made.changes and detailed_exitcode:
        sys.exit(2)


@main.command()
@manifest_argument
@prices_option
@yes_option
@patience_options
@click.option("--no-smoke", is_flag=True, help="Make no call to the endpoint at the end.")
def apply(
    file: Path, region: str | None, prices: Path | None, yes: bool, timeout: float, poll: float, no_smoke: bool
) -> None:
    """Bring AWS to what the manifest wants, and make a call to it. Does nothing where nothing is to do."""
    _apply(work(file, region), prices, yes, Patience(timeout * 60, poll), not no_smoke)


@in_words
def _apply(with_: Work, prices: Path | None, yes: bool, patience: Patience, call: bool) -> None:
    _may_ask(yes)

    def approve(made: Plan) -> bool:
        show(made, sys.stdout)
        return not made.changes or yes or click.confirm("Apply this?", err=True)

    done = Applier(with_.desired, with_.aws, with_.progress, patience).run(approve, _prices(with_, prices))
    if done is None:
        raise Failure("nothing was changed")
    with_.progress.say(f"the endpoint {with_.endpoint} is InService")
    if call:
        _smoke(with_)


def _smoke(with_: Work) -> None:
    from deploy.export import export, public_names

    gateway = smoke.has_gateway()
    if not gateway:
        with_.progress.say("lmi-gateway is not installed here: the call is made by boto3, without its transport")
    for (_, served), name in zip(with_.manifest.served, public_names(with_.manifest), strict=True):
        component = served.name if isinstance(served, Component) else ""
        if component and smoke.asleep(with_.aws, component):
            with_.progress.say(f"no call to {component}, which has no copy now")
            continue
        with_.progress.say(f"making a call to {component or 'it'}")
        if gateway:
            with_.progress.say(smoke.through_gateway(export(with_.manifest, with_.aws.region), name))
        else:
            with_.progress.say(smoke.through_boto3(with_.aws, with_.endpoint, component))


@main.command()
@manifest_argument
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def status(file: Path, region: str | None, in_json: bool) -> None:
    """Show the states of what the manifest made, and what is not as it says."""
    _status(work(file, region), in_json)


@in_words
def _status(with_: Work, in_json: bool) -> None:
    observed = observe(with_.desired, with_.aws)
    seen = looked_up(planned(with_.desired, observed), observed, with_.aws)
    click.echo(status_json(seen) if in_json else status_text(seen), nl=False)


@main.command()
@manifest_argument
@click.option("--since", default="10m", show_default=True, metavar="TIME", help="From when on: 90s, 10m, 2h, 1d.")
@click.option("--follow", "-f", "follows", is_flag=True, help="Go on with what comes; Ctrl-C ends it.")
@click.option("--poll", type=click.FloatRange(0, 600), default=3.0, show_default=True, help="Seconds between looks.")
def logs(file: Path, region: str | None, since: str, follows: bool, poll: float) -> None:
    """Print what the containers of the endpoint and its components have written to CloudWatch."""
    _logs(work(file, region), since, follows, poll)


@in_words
def _logs(with_: Work, since: str, follows: bool, poll: float) -> None:
    since_ms = int((time.time() - since_s(since)) * 1000)
    hosts = with_.desired.of("endpoint") + with_.desired.of("inference-component")
    keys = [resource.key for resource in hosts]
    coming = follow(with_.aws, keys, since_ms=since_ms, pause_s=poll) if follows else None
    try:
        for line in coming or lines(with_.aws, keys, since_ms=since_ms):
            _print(line)
    except KeyboardInterrupt:
        if not follows:
            raise


def _print(line: Line) -> None:
    click.echo(printable(str(line)))


@main.command()
@manifest_argument
@yes_option
@patience_options
def destroy(file: Path, region: str | None, yes: bool, timeout: float, poll: float) -> None:
    """Delete what was made from the manifest, and nothing else."""
    _destroy(work(file, region), yes, Patience(timeout * 60, poll))


@in_words
def _destroy(with_: Work, yes: bool, patience: Patience) -> None:
    _may_ask(yes)

    def approve(made: Plan) -> bool:
        if not made.changes:
            click.echo("nothing to do: nothing of this manifest is there")
            return True
        show(made, sys.stdout)
        return yes or _names_it(with_.endpoint)

    if Applier(with_.desired, with_.aws, with_.progress, patience, removing=True).run(approve) is None:
        raise Failure("nothing was deleted")


main.add_command(export_command)
main.add_command(import_command)


def _names_it(endpoint: str) -> bool:
    return str(click.prompt(f"Type {endpoint} to delete it", err=True, default="", show_default=False)) == endpoint


def _may_ask(yes: bool) -> None:
    if not yes and not sys.stdin.isatty():
        raise Failure("nobody can be asked here, as this is no terminal: look at it with `plan`, then add --yes")


def _prices(with_: Work, file: Path | None) -> Mapping[str, float] | None:
    prices = {**with_.manifest.prices, **(read_prices(file) if file is not None else {})}
    return prices or None
