"""The sections of a manifest that say how an endpoint grows, shrinks, sleeps, and changes.

https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling.html,
https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails.html
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from deploy.manifestfile import Loc
from deploy.sections import AwsName, Section

_SCHEDULE = re.compile(r"cron\(\S+( \S+){5}\)|rate\([0-9]+ (minute|hour|day)s?\)|at\(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\)")
Cooldown = Annotated[int, Field(ge=0, le=3600)]


class Scaling(Section):
    """Adds and removes copies by how many calls run at once: machines, or copies of an inference component."""

    min: Annotated[int, Field(ge=0)] = 1
    """At least so many copies. 0 lets an inference component sleep; the first call that finds it asleep fails and wakes
    it."""
    max: Annotated[int, Field(ge=1)]
    """At most so many."""
    concurrency_per_copy: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Calls running at once that a copy is meant to have: the target that scaling keeps to."""
    scale_out_cooldown_s: Cooldown = 60
    """Seconds to wait after adding before adding again."""
    scale_in_cooldown_s: Cooldown = 300
    """Seconds to wait after removing before removing again."""
    scale_in: bool = True
    """Whether copies are removed at all."""

    def faults(self) -> Iterator[tuple[Loc, str]]:
        if self.min > self.max:
            yield ("min",), "is above max"


class Schedule(Section):
    """Changes the bounds of scaling at set times."""

    name: AwsName
    """Names the scheduled action."""
    when: str
    """`cron(minute hour day month weekday year)`, `rate(1 day)` or `at(2026-12-24T18:00:00)`."""
    timezone: str = "UTC"
    """Time zone of `when`, such as Europe/Berlin."""
    min: Annotated[int, Field(ge=0)] | None = None
    """The least number of copies from then on."""
    max: Annotated[int, Field(ge=0)] | None = None
    """The largest."""

    def faults(self) -> Iterator[tuple[Loc, str]]:
        if not _SCHEDULE.fullmatch(self.when):
            yield ("when",), "expected cron(…) with six fields, rate(…) or at(YYYY-MM-DDThh:mm:ss)"
        elif self.when.startswith("at("):
            try:
                datetime.datetime.fromisoformat(self.when[3:-1])
            except ValueError:
                yield ("when",), "is no day and time"
        known = zoneinfo.available_timezones()  # none at all on a machine without their data
        if known and self.timezone not in known:
            yield ("timezone",), "is no time zone, such as Europe/Berlin"
        if self.min is None and self.max is None:
            yield (), "say min, max or both"
        if self.min is not None and self.max is not None and self.min > self.max:
            yield ("min",), "is above max"


class Rollback(Section):
    """When a change is taken back by itself."""

    alarms: tuple[Annotated[str, StringConstraints(min_length=1, max_length=255)], ...] = ()
    """Names of CloudWatch alarms that are there already."""
    server_errors_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Makes an alarm of its own: more answers of 5xx than this within a minute, twice in a row."""
    latency_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Makes an alarm of its own: a model latency above this on average over a minute, twice in a row."""

    def faults(self) -> Iterator[tuple[Loc, str]]:
        own = (self.server_errors_per_minute is not None) + (self.latency_s is not None)
        if not 1 <= len(self.alarms) + own <= 10:
            yield (), "expected one to ten alarms"


class Update(Section):
    """How a change reaches the machines: DeploymentConfig."""

    strategy: Literal["all_at_once", "canary", "linear", "rolling"] = "all_at_once"
    """A second fleet that takes the calls over at once (`all_at_once`), after a trial (`canary`), step by step
    (`linear`), or no second fleet: machines are replaced in batches (`rolling`)."""
    percent: Annotated[int, Field(ge=1, le=50)] | None = None
    """Size of the trial, the steps or the batches, in percent of the machines."""
    count: Annotated[int, Field(ge=1)] | None = None
    """The same as a number of machines."""
    wait_s: Annotated[int, Field(ge=0, le=3600)] = 300
    """Seconds to watch the alarms after each step."""
    keep_old_s: Annotated[int, Field(ge=0, le=3600)] = 60
    """Seconds for which the old fleet stays after the last step."""
    timeout_s: Annotated[int, Field(ge=600, le=28_800)] = 7200
    """Seconds for all of it."""
    rollback: Rollback | None = None
    """Takes a change back that trips an alarm."""

    def faults(self) -> Iterator[tuple[Loc, str]]:
        sized = (self.percent is not None) + (self.count is not None)
        if self.strategy == "all_at_once" and sized:
            yield (), "all_at_once has neither percent nor count"
        if self.strategy != "all_at_once" and sized != 1:
            yield (), f"{self.strategy} needs either percent or count"
        least, what = {"rolling": (5, "batches"), "linear": (10, "steps")}.get(self.strategy, (1, ""))
        if self.percent is not None and self.percent < least:
            yield ("percent",), f"{what} are {least} to 50 percent of the machines"
