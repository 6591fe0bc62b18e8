"""Calls at the gate: which rules they fall under, what they reserve, who waits, and what a refusal says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from adapters.base import Call, Surface, Usage
from gateway.auth.principal import Principal
from gateway.config.limits import Limits, Prices, Waiting
from gateway.errors import ConcurrencyLimitExceeded, LimitError, QuotaExceeded, RateLimitExceeded
from gateway.limits.admission import Admission, ModelTerms, Permit
from gateway.limits.gcra import DAY_MS
from gateway.limits.memory import MemoryLimits
from gateway.limits.plan import Plans, rules_of
from gateway.limits.rules import Rule

NONE = Limits()
START_MS = 1_790_000_000_000


class Observer:
    def __init__(self) -> None:
        self.decisions: Counter[tuple[str, str, str]] = Counter()
        self.waiting: list[int] = []

    def limit_decision(self, scope: str, limit: str, decision: str) -> None:
        self.decisions[scope, limit, decision] += 1

    def limit_waiting(self, model: str, waiting: int) -> None:
        self.waiting.append(waiting)


class World:
    """An admission over the memory store, on a clock of its own."""

    def __init__(
        self, *, model: Limits = NONE, team: Limits = NONE, prices: Prices | None = None, **waiting: Any
    ) -> None:
        self.now_ms = START_MS
        self.store = MemoryLimits(lambda: self.now_ms)
        self.seen = Observer()
        plans = Plans({"team": rules_of("team:team", team, NONE)}, {"model": rules_of("model:model", model, NONE)})
        terms = ModelTerms("model", 10_000, prices, Waiting(**waiting))
        self.admission = Admission(self.store, plans, {"model": terms}, self.seen)

    async def enter(self, principal: Principal, **call: Any) -> Any:
        return await self.admission.enter(principal, "model", a_call(**call), lambda: None)

    @property
    def books(self) -> dict[bytes, int]:
        return dict(self.store.books.get(self.now_ms // DAY_MS, {}))


def a_call(*, text: str = "hello", max_tokens: int | None = 100, choices: int = 1) -> Call:
    messages = [{"role": "user", "content": text}]
    raw = {"messages": msgspec.Raw(msgspec.json.encode(messages))}
    return Call(Surface.CHAT, "model", raw, {"messages": messages}, False, False, choices, max_tokens)


def told(permit: Permit) -> dict[str, str]:
    """What the caller of an admitted call is told about its limits."""
    lines = permit.header_lines.decode().removesuffix("\r\n").split("\r\n")
    return {line.split(": ")[0]: line.split(": ")[1] for line in lines}


def holder(
    name: str = "app", limits: Limits = NONE, *, shadow: Limits = NONE, at_model: Limits = NONE, **more: Any
) -> Principal:
    rules: dict[str, tuple[Rule, ...]] = {"model": rules_of(f"key:{name}@model", at_model, NONE)}
    return Principal(name, None, limits=rules_of(f"key:{name}", limits, shadow), model_limits=rules, **more)


SCOPES: dict[str, tuple[Callable[[Limits], tuple[World, Principal]], str]] = {
    "key": (lambda limit: (World(), holder(limits=limit)), "for this API key reached"),
    "key at a model": (
        lambda limit: (World(), holder(at_model=limit)),
        "for this API key at the model `model` reached",
    ),
    "team": (lambda limit: (World(team=limit), holder(team="team")), "for this API key's team reached"),
    "model": (lambda limit: (World(model=limit), holder()), "for the model `model` reached"),
}


@pytest.mark.parametrize("scope", SCOPES)
def test_a_limit_of_each_kind_of_holder_is_kept_and_named(scope: str) -> None:
    make, words = SCOPES[scope]

    async def main() -> None:
        world, principal = make(Limits(requests_per_minute=2))
        for _ in range(2):
            (await world.enter(principal)).settle(Usage(1, 1))
        with pytest.raises(RateLimitExceeded, match=words) as caught:
            await world.enter(principal)
        assert caught.value.retry_after_s == 30
        assert ("retry-after-ms", "30000") in caught.value.headers
        assert world.seen.decisions == {(scope.replace(" at a ", "_"), "requests_per_minute", "refused"): 1}

    asyncio.run(main())


def test_a_call_without_limits_reserves_nothing_and_is_in_the_books() -> None:
    async def main() -> None:
        world = World(prices=Prices(prompt_per_million=3, completion_per_million=15))
        permit = await world.enter(holder(team="team"))
        assert permit.header_lines == b""
        permit.settle(Usage(1000, 100, 200))
        permit.settle(Usage(9, 9))
        assert {name.decode(): amount for name, amount in world.books.items() if b"milli" not in name} == {
            "app|team|model|requests": 1,
            "app|team|model|prompt_tokens": 1000,
            "app|team|model|cached_tokens": 200,
            "app|team|model|completion_tokens": 100,
            "app|team|model|money": 4500,
        }

    asyncio.run(main())


def test_what_is_left_is_told_on_success_and_on_refusal() -> None:
    async def main() -> None:
        world = World(team=Limits(tokens_per_minute=600))
        principal = holder(limits=Limits(requests_per_minute=60, requests_burst=2), team="team")
        permit = await world.enter(principal, max_tokens=100)
        assert told(permit) == {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "1",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-limit-tokens": "600",
            "x-ratelimit-remaining-tokens": "481",
            "x-ratelimit-reset-tokens": "11.9s",
        }
        permit.settle(Usage(10, 10))
        assert told(await world.enter(principal, max_tokens=100))["x-ratelimit-remaining-tokens"] == "461"
        with pytest.raises(RateLimitExceeded) as caught:
            await world.enter(principal)
        assert dict(caught.value.headers)["x-ratelimit-remaining-requests"] == "0"
        assert caught.value.retry_after_s == 1

    asyncio.run(main())


def test_a_call_that_asks_for_more_than_a_minute_is_refused_for_good() -> None:
    async def main() -> None:
        principal = holder(limits=Limits(tokens_per_minute=500))
        world = World()
        with pytest.raises(RateLimitExceeded, match="lower max_tokens or shorten the prompt") as caught:
            await world.enter(principal, max_tokens=1000)
        assert ("x-should-retry", "false") in caught.value.headers
        assert caught.value.retry_after_s is None
        # One that names no bound takes what there is.
        permit = await world.enter(principal, max_tokens=None)
        assert told(permit)["x-ratelimit-remaining-tokens"] == "0"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(tokens_per_day=300), "The tokens for this API key are spent for this day"),
        (Limits(money_per_day=0.001), "The funds for this API key are spent for this day"),
        (Limits(money_per_month=0.001), "The funds for this API key are spent for this month"),
    ],
    ids=["tokens a day", "money a day", "money a month"],
)
def test_a_spent_budget_says_when_it_is_there_again_and_not_to_retry(limits: Limits, words: str) -> None:
    async def main() -> None:
        world = World(prices=Prices(completion_per_million=5))
        principal = holder(limits=limits)
        (await world.enter(principal, max_tokens=100)).settle(Usage(100, 200))
        with pytest.raises(QuotaExceeded, match=words) as caught:
            await world.enter(principal, max_tokens=10)
        assert (caught.value.type, caught.value.code) == ("insufficient_quota", "insufficient_quota")
        assert ("x-should-retry", "false") in caught.value.headers
        world.now_ms += 31 * DAY_MS
        await world.enter(principal, max_tokens=10)

    asyncio.run(main())


def test_a_budget_that_running_calls_reserve_is_worth_another_try() -> None:
    async def main() -> None:
        world = World()
        principal = holder(limits=Limits(tokens_per_day=300))
        running = await world.enter(principal, max_tokens=250)
        with pytest.raises(QuotaExceeded, match="is reserved by calls that run") as caught:
            await world.enter(principal, max_tokens=250)
        assert "The call was for the model `model`." in caught.value.message
        assert caught.value.retry_after_s == 1
        running.settle(Usage(10, 10))
        await world.enter(principal, max_tokens=250)

    asyncio.run(main())


def test_a_shadow_limit_is_seen_and_not_felt() -> None:
    async def main() -> None:
        world = World()
        principal = holder(shadow=Limits(requests_per_minute=1))
        for _ in range(5):
            permit = await world.enter(principal)
            assert permit.header_lines == b""
            permit.settle(None)
        assert world.seen.decisions == {("key", "requests_per_minute", "shadow"): 4}

    asyncio.run(main())


def test_a_call_that_was_cut_pays_for_its_prompt_and_what_arrived() -> None:
    async def main() -> None:
        world = World()
        principal = holder(limits=Limits(tokens_per_day=1000))
        failed = await world.enter(principal)
        failed.settle(None)
        cut = await world.enter(principal)
        cut.settle(None, delivered=7)
        assert world.store.ledger.counters() == {"key:app:tokens_per_day": cut.estimate + 7}
        assert world.store.ledger.held() == {}

    asyncio.run(main())


FULL: dict[str, Any] = {"model": Limits(concurrent_requests=1), "most": 10, "seconds": 5.0}


def test_calls_over_a_models_number_wait_and_go_by_class_and_turn() -> None:
    async def main() -> None:
        world = World(**FULL)
        order: list[str] = []
        running = await world.enter(holder("first"))

        async def caller(name: str, priority: Any) -> None:
            permit = await world.enter(holder(name, priority=priority))
            order.append(name)
            permit.settle(Usage(1, 1))

        tasks = []
        for name, priority in [("low", "low"), ("greedy1", "default"), ("greedy2", "default"), ("high", "high")]:
            tasks.append(asyncio.create_task(caller(name, priority)))
            await asyncio.sleep(0)
        assert order == []
        running.settle(Usage(1, 1))
        await asyncio.gather(*tasks)
        # The first in line was asking already when the others came.
        assert order == ["low", "high", "greedy1", "greedy2"]
        assert world.seen.decisions["model", "concurrent_requests", "waited"] == 4
        assert world.store.ledger.held() == {}

    asyncio.run(main())


def test_waiting_ends_with_the_deadline() -> None:
    async def main() -> None:
        world = World(model=Limits(concurrent_requests=1), most=10, seconds=0.05)
        running = await world.enter(holder())
        with pytest.raises(ConcurrencyLimitExceeded, match=r"has waited for 0\.05 seconds") as caught:
            await world.enter(holder())
        assert caught.value.retry_after_s == 1
        running.settle(None)
        (await world.enter(holder())).settle(None)

    asyncio.run(main())


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_who_is_turned_away_is_told_how_long_the_line_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("gateway.limits.admission.monotonic", clock)

    async def main() -> None:
        world = World(model=Limits(concurrent_requests=1), most=2, seconds=60)
        running = await world.enter(holder())
        waiting = []

        async def line_up(callers: int) -> None:
            for _ in range(callers):
                waiting.append(asyncio.create_task(world.enter(holder())))
                await asyncio.sleep(0)

        async def refused() -> str:
            with pytest.raises(ConcurrencyLimitExceeded, match="are waiting") as caught:
                await world.enter(holder())
            return dict(caught.value.headers)["retry-after-ms"]

        await line_up(3)  # one asks, two stand in line
        assert await refused() == "100"  # nothing is known yet: it has only just filled up
        clock.now_s += 4
        assert await refused() == "12000"  # 4 seconds without a move, and two stand there already
        for _ in range(2):
            running.settle(None)
            running = await waiting.pop(0)
            await line_up(1)
            clock.now_s += 4
        assert await refused() == "12000"  # a call ended every 4 seconds
        clock.now_s += 100
        assert await refused() == "120000"
        running.settle(None)
        for task in waiting:
            (await task).settle(None)

    asyncio.run(main())


def test_a_full_line_refuses_at_once() -> None:
    async def main() -> None:
        world = World(model=Limits(concurrent_requests=1), most=1, seconds=5)
        running = await world.enter(holder())
        waiting = [asyncio.create_task(world.enter(holder())) for _ in range(2)]  # one asks, one stands in line
        await asyncio.sleep(0.01)
        with pytest.raises(ConcurrencyLimitExceeded, match="are waiting"):
            await world.enter(holder())
        running.settle(None)
        for task in waiting:
            (await task).settle(None)

    asyncio.run(main())


def test_a_caller_who_leaves_the_line_makes_room_for_the_next() -> None:
    async def main() -> None:
        world = World(**FULL)
        running = await world.enter(holder())
        tasks = [asyncio.create_task(world.enter(holder(str(at)))) for at in range(3)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        tasks[1].cancel()
        running.settle(None)
        (await tasks[2]).settle(None)
        assert world.store.ledger.held() == {}

    asyncio.run(main())


def test_other_limits_are_not_waited_for() -> None:
    async def main() -> None:
        world = World(**FULL)
        principal = holder(limits=Limits(concurrent_requests=1))
        running = await world.enter(principal)
        with pytest.raises(LimitError, match="for this API key"):
            await world.enter(principal)
        running.settle(None)

    asyncio.run(main())
