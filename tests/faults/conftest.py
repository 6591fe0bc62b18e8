"""One gateway in front of one local SageMaker for the faults that leave both as they were.

After every test nothing may be left over: no call in flight in the gateway, and none running upstream.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.world import World, running_world


@pytest.fixture(scope="session")
def shared_world() -> Iterator[World]:
    with running_world() as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The shared gateway, checked for leftovers afterwards."""
    shared_world.begin()
    yield shared_world
    shared_world.settle()


@pytest.fixture(scope="session")
def shared_loud_world() -> Iterator[World]:
    with running_world(log_level="debug", log_calls="all", header_timeout_s=0.5, body_timeout_s=0.5) as world:
        yield world


@pytest.fixture
def loud_world(shared_loud_world: World) -> Iterator[World]:
    """A gateway that logs all it can, checked in the same way."""
    shared_loud_world.begin()
    yield shared_loud_world
    shared_loud_world.settle()
