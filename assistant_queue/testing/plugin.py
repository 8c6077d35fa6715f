"""The pytest plugin: fixtures for tests of a bot.

Loaded by pytest itself; dependencies are imported when a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from assistant_queue.testing.fake_clock import FakeClock
    from assistant_queue.testing.provider import StandInProvider
    from assistant_queue.testing.rehearsal import Rehearsal


@pytest.fixture
def rehearse() -> Iterator[Callable[..., Rehearsal]]:
    """`rehearse(queue, model=..., personality=...)`: a `Rehearsal`, closed after the test."""
    from assistant_queue.testing.rehearsal import Rehearsal

    with ExitStack() as stack:

        def begin(queue: Any, **options: Any) -> Rehearsal:
            return stack.enter_context(Rehearsal(queue, **options))

        yield begin


@pytest.fixture
def stand_in_provider() -> Iterator[StandInProvider]:
    """A running stand-in provider without latency: `.base_url`, `.api_key`, `.assistant_id`."""
    from assistant_queue.testing.provider import StandInProvider

    with StandInProvider(latency=0) as provider:
        yield provider


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that stands still until it is advanced."""
    from assistant_queue.testing.fake_clock import FakeClock

    return FakeClock()
