"""Whose turn it is: classes, fairness between keys, and who gives up waiting."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.queue import PRIORITIES, QUANTUM, FairQueue, Priority


def drain(queue: FairQueue[str]) -> list[str]:
    taken = []
    while (item := queue.take()) is not None:
        taken.append(item)
    return taken


def test_the_calls_of_one_key_keep_their_order() -> None:
    queue = FairQueue[str](10)
    for name in ("first", "second", "third"):
        assert queue.add(name, "key", "default", 5000)
    assert drain(queue) == ["first", "second", "third"]


def test_a_higher_class_goes_first() -> None:
    queue = FairQueue[str](10)
    for priority in ("low", "default", "high"):
        queue.add(priority, "key", priority, 1)
    assert drain(queue) == ["high", "default", "low"]


def test_a_key_with_many_calls_waits_its_turn_like_any_other() -> None:
    queue = FairQueue[str](200)
    for number in range(100):
        queue.add(f"greedy{number}", "greedy", "default", QUANTUM)
    for number in range(3):
        queue.add(f"modest{number}", "modest", "default", QUANTUM)
    order = drain(queue)
    assert [order.index(f"modest{number}") for number in range(3)] == [1, 3, 5]


def test_a_key_with_large_calls_gets_no_more_work_done_than_one_with_small_calls() -> None:
    queue = FairQueue[str](2000)
    for _ in range(100):
        queue.add("large", "large", "default", 10 * QUANTUM)
    for _ in range(1000):
        queue.add("small", "small", "default", QUANTUM)
    done: Counter[str] = Counter()
    for _ in range(500):
        name = queue.take()
        assert name is not None
        done[name] += 10 if name == "large" else 1
    assert abs(done["large"] - done["small"]) <= 10


def test_a_full_queue_takes_nobody() -> None:
    queue = FairQueue[str](1)
    assert queue.add("in", "key", "low", 1)
    assert not queue.add("out", "other", "high", 1)
    assert (drain(queue), len(queue)) == (["in"], 0)


def test_who_gives_up_is_not_called() -> None:
    queue = FairQueue[str](5)
    for name in ("a", "b", "c"):
        queue.add(name, "key", "default", 1)
    assert queue.remove("b", "key", "default")
    assert not queue.remove("b", "key", "default")
    assert drain(queue) == ["a", "c"]


CALLS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(PRIORITIES), st.integers(0, 5 * QUANTUM), st.booleans())
)


@given(calls=CALLS)
def test_every_call_leaves_once_in_the_order_of_its_key_and_class(calls: list[tuple[str, Priority, int, bool]]) -> None:
    queue = FairQueue[tuple[int, str, str]](1000)
    stay = []
    for number, (key, priority, cost, _) in enumerate(calls):
        queue.add((number, key, priority), key, priority, cost)
    waiting = {item: item for item in ((n, key, priority) for n, (key, priority, _, _) in enumerate(calls))}
    for number, (key, priority, _, leaves) in enumerate(calls):
        item = (number, key, priority)
        if not leaves:
            stay.append(item)
            continue
        found = next((entry[0] for entry in queue._classes[priority][key].waiting if entry[0] == item), None)
        assert found is not None
        assert queue.remove(found, key, priority)
        del waiting[item]
    taken = []
    while (one := queue.take()) is not None:
        taken.append(one)
    assert sorted(taken) == stay
    assert [PRIORITIES.index(item[2]) for item in taken] == sorted(PRIORITIES.index(item[2]) for item in taken)
    for key in "abc":
        for priority in PRIORITIES:
            numbers = [item[0] for item in taken if item[1:] == (key, priority)]
            assert numbers == sorted(numbers)
