"""The mark of a delivery that was given up and goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assistant_queue.store import control, deliveries
from assistant_queue.store.calls import Operation
from tests.contract.store_rig import Rig

LEASE_S, RESULT_TTL_S = 30.0, 3600.0


def look(store: Rig) -> str | None:
    return store.run(deliveries.look(store.space, "b"))


def announce(store: Rig) -> Operation[None]:
    return deliveries.announce(store.space, "b", LEASE_S)


def keep_open(store: Rig) -> Operation[None]:
    return deliveries.keep_open(store.space, "b", LEASE_S)


def settle(store: Rig) -> Operation[None]:
    return deliveries.settle(store.space, "b", RESULT_TTL_S)


def clear(store: Rig) -> Operation[None]:
    return deliveries.clear(store.space, "b")


@pytest.mark.parametrize(
    ("operations", "found", "lives_s"),
    [
        ([], None, -2),
        ([announce], "open", LEASE_S),
        ([announce, keep_open], "open", LEASE_S),
        ([announce, settle], "done", RESULT_TTL_S),
        ([keep_open, settle, announce], "done", RESULT_TTL_S),  # the call returned while it was being announced
        ([announce, clear], None, -2),
        ([settle, clear], None, -2),
    ],
)
@pytest.mark.parametrize("times", [1, 2], ids=["once", "repeated"])
def test_a_mark_says_what_is_known_and_lives_as_long(
    store: Rig, operations: list[Callable[[Rig], Operation[None]]], found: str | None, lives_s: float, times: int
) -> None:
    """Whether the reply of a command was lost, and it was sent again, or not."""
    for operation in operations:
        for _ in range(times):
            store.run(operation(store))
    assert look(store) == found
    assert store.client.ttl(store.keys.delivery("b")) in {int(lives_s), int(lives_s) - 1}


def test_a_mark_that_is_not_of_our_making_says_nothing_and_is_replaced(store: Rig) -> None:
    for write in (lambda: store.client.rpush(store.keys.delivery("b"), "x"), lambda: store.client.set(store.keys.delivery("b"), b"\xff")):
        store.client.delete(store.keys.delivery("b"))
        write()
        assert look(store) is None
        store.run(keep_open(store))
        assert look(store) == "open"


def test_a_mark_goes_with_its_thread(store: Rig) -> None:
    store.add("thread", delay_s=0)
    lease: Any = store.claim("thread")
    store.complete(lease)
    batch_id = lease.claimed.batch.id
    store.run(deliveries.settle(store.space, batch_id, RESULT_TTL_S))
    store.finish(lease)
    store.run(control.forget(store.space, "thread"))
    assert store.run(deliveries.look(store.space, batch_id)) is None
