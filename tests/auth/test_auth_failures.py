"""Wrong keys: slowed by address, in bounded memory."""

from __future__ import annotations

import pytest

from gateway.auth.failures import Failures


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_twenty_at_once_then_one_a_second() -> None:
    clock = Clock()
    failures = Failures(clock=clock)
    assert [failures.add("192.0.2.1") for _ in range(20)] == [None] * 20
    assert [failures.add("192.0.2.1") for _ in range(3)] == [1000, 1000, 1000]
    clock.now += 0.25
    assert failures.add("192.0.2.1") == 750
    clock.now += 0.75
    assert [failures.add("192.0.2.1") for _ in range(2)] == [None, 1000]
    clock.now += 3600
    assert [failures.add("192.0.2.1") for _ in range(21)] == [*[None] * 20, 1000]


@pytest.mark.parametrize(("one", "other", "shared"), [
    pytest.param("192.0.2.1", "192.0.2.2", False, id="each IPv4 address by itself"),
    pytest.param("2001:db8::1", "2001:db8::ffff:1", True, id="an IPv6 network of 64 bits as one"),
    pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="two IPv6 networks"),
    pytest.param("::ffff:192.0.2.1", "192.0.2.1", True, id="IPv4 told as IPv6"),
    pytest.param("fe80::1%eth0", "fe80::2", True, id="with a zone"),
    pytest.param(None, None, True, id="no address: a Unix socket"),
])  # fmt: skip
def test_who_shares_a_budget(one: str | None, other: str | None, shared: bool) -> None:
    failures = Failures(clock=Clock())
    for _ in range(20):
        failures.add(one)
    assert (failures.add(other) is not None) is shared


def test_no_more_addresses_than_the_bound_are_remembered() -> None:
    failures = Failures(most=100, clock=Clock())
    for number in range(250):
        failures.add(f"10.0.{number // 250}.{number}")
    assert len(failures) == 100
    for _ in range(19):
        assert failures.add("10.0.0.249") is None
    assert failures.add("10.0.0.249") == 1000, "the newest are those remembered"
