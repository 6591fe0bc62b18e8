"""Credentials are renewed ahead of their end and after a refusal, without a storm, on a clock that jumps."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.sagemaker import credentials
from gateway.sagemaker.credentials import AgentFailed, Answer, CredentialSource, CredentialStore, Question
from gateway.sagemaker.sigv4 import Credentials
from tests.sagemaker.virtual import now, run

EPOCH = 1_700_000_000.0
ROLE = "arn:aws:iam::123456789012:role/team/invoke"
SECRET, TOKEN = "canary-secret", "canary-token"


@dataclass
class Clock:
    """The wall clock, which can be set, and the monotonic one, which cannot."""

    wall: float = EPOCH
    ticks: float = 1_000.0
    jumped: float = 0.0

    def time(self) -> float:
        return self.wall + self.jumped

    def monotonic(self) -> float:
        return self.ticks

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(credentials, "time", clock)
    return clock


def keys(name: str = "ASIA1", lifetime_s: float | None = None, at: float = EPOCH) -> Credentials:
    return Credentials(name, SECRET, TOKEN, None if lifetime_s is None else at + lifetime_s)


# --- one identity --------------------------------------------------------------------------------------------------


def test_a_source_has_nothing_until_something_was_found(clock: Clock) -> None:
    source = CredentialSource(None, None, "us-east-1")
    assert (source.current(), source.due_in_s()) == (None, 0.0)


@pytest.mark.parametrize(("lifetime_s", "due_s"), [
    pytest.param(None, math.inf, id="for good"),
    pytest.param(3_600, 2_700, id="an hour"),
    pytest.param(43_200, 42_300, id="twelve hours"),
    pytest.param(600, 450, id="ten minutes"),
    pytest.param(8, 6, id="seconds"),
    pytest.param(0, 0, id="none"),
    pytest.param(-60, 0, id="over already"),
])  # fmt: skip
def test_how_long_credentials_are_kept(clock: Clock, lifetime_s: float | None, due_s: float) -> None:
    source = CredentialSource(None, None, "us-east-1")
    source.accepted(keys(lifetime_s=lifetime_s))
    assert source.due_in_s() == due_s


def test_credentials_count_until_the_moment_they_expire(clock: Clock) -> None:
    source = CredentialSource(None, None, "us-east-1")
    source.accepted(found := keys(lifetime_s=10))
    clock.passes(9.999)
    assert source.current() is found
    clock.passes(0.001)
    assert source.current() is None
    assert source.due_in_s() == 0.0


def test_the_first_refusal_wakes_and_later_ones_do_not(clock: Clock) -> None:
    source, wake = CredentialSource(None, None, "us-east-1"), asyncio.Event()
    source.wake_with(wake)
    source.accepted(keys())
    source.refused()
    assert (wake.is_set(), source.refused_since, source.due_in_s()) == (True, 1_000.0, 0.0)
    wake.clear()
    clock.passes(5)
    source.refused()
    assert (wake.is_set(), source.refused_since) == (False, 1_000.0)
    source.accepted(keys("ASIA2"))
    assert (source.refused_since, source.due_in_s()) == (None, math.inf)


def test_refused_credentials_stay_in_use_until_there_are_others(clock: Clock) -> None:
    source = CredentialSource(None, None, "us-east-1")
    source.accepted(found := keys())
    source.refused()
    assert source.current() is found


def test_the_same_credentials_refused_again_and_again_are_renewed_ever_more_rarely(clock: Clock) -> None:
    source = CredentialSource(None, None, "us-east-1")
    source.accepted(keys())
    waits = []
    for _ in range(8):
        source.refused()
        waits.append(source.due_in_s())
        clock.passes(source.due_in_s())
        assert source.due_in_s() == 0.0
        source.accepted(keys())
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    source.refused()
    source.accepted(keys("ASIA2"))  # others, at last
    source.refused()
    assert source.due_in_s() == 0.0


def test_a_role_refused_again_and_again_is_renewed_ever_more_rarely_too(clock: Clock) -> None:
    """Each time it is assumed it has keys of its own."""
    source = CredentialSource("arn:aws:iam::123456789012:role/a", None, "us-east-1")
    source.accepted(keys("ASIA0"))
    waits = []
    for number in range(8):
        source.refused()
        waits.append(source.due_in_s())
        clock.passes(source.due_in_s())
        source.accepted(keys(f"ASIA{number + 1}"))
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]


def test_their_end_is_not_waited_out_for_a_refusal(clock: Clock) -> None:
    source = CredentialSource(None, None, "us-east-1")
    for _ in range(8):
        source.accepted(keys(lifetime_s=40))
        source.refused()
    assert source.due_in_s() == 30.0


@pytest.mark.parametrize(("role", "name"), [(None, "default"), (ROLE, "invoke")])
def test_the_name_of_a_source_is_a_label_without_an_account(role: str | None, name: str) -> None:
    assert CredentialSource(role, None, "us-east-1").name == name


# --- all of them ---------------------------------------------------------------------------------------------------


@dataclass
class Agent:
    """Answers what it is told to, and writes down when it was asked what."""

    answers: Callable[[int, dict[str, str | None]], Credentials | str]
    """The number of the question, from 1, and one identity → what is answered for it."""
    asked: list[tuple[float, list[str | None]]] = field(default_factory=list)
    takes_s: float = 0.0
    fails: set[int] = field(default_factory=set)
    """The numbers of the questions that get no answer."""

    async def __call__(self, question: Question) -> Answer:
        self.asked.append((now(), [identity["role_arn"] for identity in question]))
        number = len(self.asked)
        await asyncio.sleep(self.takes_s)
        if number in self.fails:
            raise AgentFailed("DecodeError")
        return [self.answers(number, identity) for identity in question]

    @property
    def times(self) -> list[float]:
        return [round(at, 3) for at, _ in self.asked]


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the module's clocks be the loop's."""
    clock = Clock(wall=0.0)
    monotonic = lambda: asyncio.get_running_loop().time()  # noqa: E731 - one of two views of the same clock
    both = SimpleNamespace(time=lambda: EPOCH + now() + clock.jumped, monotonic=monotonic)
    monkeypatch.setattr(credentials, "time", both)
    return clock


def lasting(number: int, identity: dict[str, str | None]) -> Credentials:
    return keys(f"{identity['role_arn'] or 'own'}-{number}")


def an_hour(number: int, identity: dict[str, str | None]) -> Credentials:
    return keys(f"ASIA{number}", 3_600, EPOCH + now())


def scenario(agent: Agent, story: Callable[[CredentialStore, CredentialSource], Coroutine[Any, Any, None]]) -> None:
    """Run a story with a started store of one identity, then stop it."""

    async def main() -> None:
        store = CredentialStore(agent)
        source = store.source(None, None, "us-east-1")
        await store.start()
        await story(store, source)
        await store.stop()
        assert len(asyncio.all_tasks()) == 1

    run(main())


async def until(at: float) -> None:
    await asyncio.sleep(at - now())


def test_every_identity_is_found_with_one_question_at_the_start(virtual: Clock) -> None:
    async def main() -> None:
        agent = Agent(lasting)
        store = CredentialStore(agent)
        own, role = store.source(None, None, "us-east-1"), store.source(ROLE, "ex-1", "us-east-1")
        assert store.source(ROLE, "ex-1", "eu-west-1") is role
        other = store.source(ROLE, "ex-2", "us-east-1")
        assert other is not role
        assert store.problems() == ["default", "invoke", "invoke"]
        await store.start()
        assert agent.asked == [(0.0, [None, ROLE, ROLE])]
        assert role.question == {"role_arn": ROLE, "external_id": "ex-1", "region": "us-east-1"}
        assert store.problems() == []
        found = [source.current() for source in (own, role, other)]
        assert found == [keys("own-1"), keys(f"{ROLE}-1"), keys(f"{ROLE}-1")]
        await until(1_000_000)
        assert len(agent.asked) == 1  # what lasts is never asked for again
        await store.stop()

    run(main())


def test_credentials_are_renewed_a_quarter_of_an_hour_ahead_and_never_missing(virtual: Clock) -> None:
    agent = Agent(an_hour, takes_s=20)

    async def story(store: CredentialStore, source: CredentialSource) -> None:
        for second in range(30, 10_000, 10):
            await until(second)
            assert source.current() is not None, second
        assert agent.times == [0, 2_720, 5_440, 8_160]  # each 20 s late, as the answer before took so long

    scenario(agent, story)


def test_a_renewal_that_fails_is_tried_again_while_the_old_credentials_still_count(virtual: Clock) -> None:
    agent = Agent(an_hour, fails={2, 3, 4})

    async def story(store: CredentialStore, source: CredentialSource) -> None:
        await until(2_729)
        assert source.current() == keys("ASIA1", 3_600)
        await until(2_740)
        assert agent.times == [0, 2_700, 2_710, 2_720, 2_730]
        assert source.current() == keys("ASIA5", 3_600, EPOCH + 2_730)

    scenario(agent, story)


def test_what_could_not_be_renewed_in_time_is_a_problem_until_it_is(virtual: Clock) -> None:
    agent = Agent(lambda number, _: "AccessDenied" if 1 < number < 100 else an_hour(number, {}))

    async def story(store: CredentialStore, source: CredentialSource) -> None:
        await until(3_599)
        assert store.problems() == []
        await until(3_600)
        assert (source.current(), store.problems()) == (None, ["default"])
        await until(3_700)
        assert store.problems() == []
        assert agent.times[-1] == 2_700 + 98 * 10

    scenario(agent, story)


def test_a_start_without_credentials_is_no_error_and_tried_again_every_ten_seconds(virtual: Clock) -> None:
    agent = Agent(lambda number, _: keys() if number > 3 else "NoCredentials", fails={1})

    async def story(store: CredentialStore, source: CredentialSource) -> None:
        assert store.problems() == ["default"]
        await until(100)
        assert (agent.times, store.problems()) == ([0, 10, 20, 30], [])

    scenario(agent, story)


def test_only_what_is_due_is_asked_for(virtual: Clock) -> None:
    async def main() -> None:
        def answers(number: int, identity: dict[str, str | None]) -> Credentials | str:
            return lasting(number, identity) if identity["role_arn"] is None else an_hour(number, identity)

        agent = Agent(answers)
        store = CredentialStore(agent)
        own, role = store.source(None, None, "us-east-1"), store.source(ROLE, None, "us-east-1")
        await store.start()
        await until(3_000)
        own.refused()
        await until(4_000)
        assert agent.asked == [(0.0, [None, ROLE]), (2_700.0, [ROLE]), (3_000.0, [None])]
        assert role.current() == keys("ASIA2", 3_600, EPOCH + 2_700)
        await store.stop()

    run(main())


# --- refusals ------------------------------------------------------------------------------------------------------


def test_a_refusal_renews_at_once(virtual: Clock) -> None:
    agent = Agent(lasting)

    async def story(store: CredentialStore, source: CredentialSource) -> None:
        await until(500)
        source.refused()
        await until(501)
        assert agent.times == [0, 500]
        assert source.current() == keys("own-2")
        assert source.refused_since is None

    scenario(agent, story)


def test_a_refusal_soon_after_a_renewal_waits_its_turn(virtual: Clock) -> None:
    agent = Agent(lasting)

    async def story(store: CredentialStore, source: CredentialSource) -> None:
        await until(2)
        source.refused()
        await until(100)
        assert agent.times == [0, 10]

    scenario(agent, story)


def test_a_storm_of_refusals_asks_once(virtual: Clock) -> None:
    agent = Agent(lasting, takes_s=3)

    async def story(store: CredentialStore, source: CredentialSource) -> None:
        await until(500)
        for step in range(1_000):  # calls in flight come back refused before and while it is renewed
            source.refused()
            await until(500 + step / 400)
        await until(1_000)
        assert agent.times == [0, 500]

    scenario(agent, story)


def test_a_permission_that_is_missing_for_hours_does_not_keep_asking(virtual: Clock) -> None:
    agent = Agent(lambda number, identity: keys("the same"))

    async def story(store: CredentialStore, source: CredentialSource) -> None:
        await until(100)
        while now() < 7_300:
            source.refused()
            await asyncio.sleep(1)
        assert agent.times[:8] == [0, 100, 110, 130, 170, 250, 410, 710]
        assert len(agent.times) < 35

    scenario(agent, story)


def test_a_wall_clock_set_forward_is_noticed_within_the_hour(virtual: Clock) -> None:
    agent = Agent(lambda number, _: keys(f"ASIA{number}", 86_400, EPOCH + now() + virtual.jumped))

    async def story(store: CredentialStore, source: CredentialSource) -> None:
        await until(100)
        virtual.jumped = 100_000.0
        assert source.current() is None
        await until(3_601)
        assert source.current() is not None

    scenario(agent, story)


# --- stopping, and what is never said ------------------------------------------------------------------------------


def test_stopping_ends_a_question_that_is_being_asked(virtual: Clock) -> None:
    ended: list[float] = []

    async def main() -> None:
        async def ask(question: Question) -> Answer:
            try:
                await asyncio.sleep(0 if not now() else 1_000)
            except asyncio.CancelledError:
                ended.append(now())
                raise
            return [keys(lifetime_s=40)]

        store = CredentialStore(ask)
        store.source(None, None, "us-east-1")
        await store.start()
        await until(35)
        await store.stop()
        await store.stop()
        assert ended == [35.0]
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_a_refusal_on_the_way_does_not_hold_up_the_stop(virtual: Clock) -> None:
    async def story(store: CredentialStore, source: CredentialSource) -> None:
        await until(500)
        source.refused()  # wakes the task that the scenario stops before it has run

    agent = Agent(lasting)
    scenario(agent, story)
    assert agent.times == [0]


def test_a_store_that_was_not_started_can_be_stopped(virtual: Clock) -> None:
    async def main() -> None:
        await CredentialStore(Agent(lasting)).stop()

    run(main())


def test_a_store_of_nothing_runs(virtual: Clock) -> None:
    async def main() -> None:
        store = CredentialStore(Agent(lasting))
        await store.start()
        await until(10_000)
        assert store.problems() == []
        await store.stop()

    run(main())


def test_failures_are_logged_by_identity_and_no_secret_ever_is(
    virtual: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def answers(number: int, identity: dict[str, str | None]) -> Credentials | str:
        return an_hour(number, identity) if identity["role_arn"] is None else "AccessDenied"

    failed: list[str] = []

    async def main() -> None:
        store = CredentialStore(Agent(answers, fails={2}), failed=failed.append)
        store.source(None, None, "us-east-1")
        store.source(ROLE, "canary-external-id", "us-east-1")
        await store.start()
        await until(15)
        await store.stop()

    with caplog.at_level(logging.DEBUG):
        run(main())
    said = [vars(record) for record in caplog.records if record.name == credentials.__name__]
    assert [(entry["msg"], entry["identity"], entry["error"]) for entry in said] == [
        ("aws credentials could not be renewed", "invoke", "AccessDenied"),
        ("aws credentials could not be renewed", "invoke", "DecodeError"),
    ]
    assert failed == [entry["identity"] for entry in said]
    assert "canary" not in repr(said)
    assert "canary" not in repr(keys(lifetime_s=3_600))
