"""The mark of an abandoned delivery that still runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assistant_queue.store.calls import Operation
from assistant_queue.store.ops import control, delivery_marks
from tests.contract.store_rig import Rig

LEASE_S = 30.0
RESULT_TTL_S = 3600.0


def look(store: Rig) -> str | None:
    return store.run(delivery_marks.look(store.namespace, "b"))


def announce(store: Rig) -> Operation[None]:
    return delivery_marks.announce(store.namespace, "b", LEASE_S)


def keep_open(store: Rig) -> Operation[None]:
    return delivery_marks.keep_open(store.namespace, "b", LEASE_S)


def settle(store: Rig) -> Operation[None]:
    return delivery_marks.settle(store.namespace, "b", RESULT_TTL_S)


def clear(store: Rig) -> Operation[None]:
    return delivery_marks.clear(store.namespace, "b")


@pytest.mark.parametrize(
    ("operations", "found", "lives_s"),
    [
        ([], None, -2),
        ([announce], "open", LEASE_S),
        ([announce, keep_open], "open", LEASE_S),
        ([announce, settle], "done", RESULT_TTL_S),
        (
            [keep_open, settle, announce],
            "done",
            RESULT_TTL_S,
        ),  # the call returned while it was being announced
        ([announce, clear], None, -2),
        ([settle, clear], None, -2),
    ],
)
@pytest.mark.parametrize("times", [1, 2], ids=["once", "repeated"])
def test_a_mark_has_the_calls_state_and_a_lifetime(
    store: Rig,
    operations: list[Callable[[Rig], Operation[None]]],
    found: str | None,
    lives_s: float,
    times: int,
) -> None:
    """Whether the reply of a command was lost, and it was sent again, or not."""
    for operation in operations:
        for _ in range(times):
            store.run(operation(store))
    assert look(store) == found
    assert store.client.ttl(store.keys.delivery("b")) in {int(lives_s), int(lives_s) - 1}


def test_a_foreign_mark_is_ignored_and_replaced(store: Rig) -> None:
    for write in (
        lambda: store.client.rpush(store.keys.delivery("b"), "x"),
        lambda: store.client.set(store.keys.delivery("b"), b"\xff"),
    ):
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
    store.run(delivery_marks.settle(store.namespace, batch_id, RESULT_TTL_S))
    store.finish(lease)
    store.run(control.forget(store.namespace, "thread"))
    assert store.run(delivery_marks.look(store.namespace, batch_id)) is None
