"""The core that both queue classes share: one positional argument instead of the options."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue
from assistant_queue.client.queue_core import open_async_core, open_core
from assistant_queue.config import configure
from assistant_queue.testing.fake_clock import FakeClock

CLASSES: list[Any] = [AssistantMessageQueue, AsyncAssistantMessageQueue]
CONFIG = configure({"queue_prefix": "shop", "model": "m"})


@pytest.mark.parametrize("kind", CLASSES)
def test_a_queue_over_a_core_has_its_options_and_its_clock(kind: Any) -> None:
    clock = FakeClock()
    core: Any = (open_core if kind is AssistantMessageQueue else open_async_core)(CONFIG, clock)
    queue = kind(core)
    assert (queue.core, queue.config, queue.core.clock) == (core, CONFIG, clock)
    assert queue.core.namespace.prefix == "shop"


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    ("given", "options"),
    [
        (("redis://localhost",), {}),
        ((CONFIG,), {}),
        ((None,), {}),
        ((open_core(CONFIG),), {"model": "n"}),
    ],
)
def test_anything_else_by_position_is_a_type_error(
    kind: Any, given: tuple[Any, ...], options: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match="options as keywords only"):
        kind(*given, **options)


def test_the_clients_of_a_caller_are_not_the_cores_to_close() -> None:
    client = fakeredis.FakeRedis()
    assert not open_core(configure({"redis": client, "model": "m"})).owns_client
    assert open_core(CONFIG).owns_client
