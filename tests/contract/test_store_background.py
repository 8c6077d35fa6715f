"""Batches that are parked while the provider works: webhooks, polls, and what is left of them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.wishes import Wish
from assistant_queue.errors import LeaseLost
from assistant_queue.models import ExplanationVerdict
from assistant_queue.store.ops import control, explaining, runs_at_work
from assistant_queue.store.ops.leases import Lease
from tests.conftest import RedisServer
from tests.contract.store_rig import Rig
from tests.contract.test_format import dump, restore
from tests.contract.test_store_steering import assert_a_copy_changes_nothing, claimed

PARKED = ThreadState.PARKED


def parked(store: Rig, run_id: str = "run_1", thread: str = "thread", **times: float) -> Lease:
    message_id = store.fresh("m")
    store.add(thread=thread, message_id=message_id, delay_s=0)
    store.lose_wakeups()  # of the add
    lease = store.claim(thread)
    store.await_run(lease, run_id, **times)
    return lease


def at_work(store: Rig) -> int:
    return store.run(runs_at_work.in_the_air(store.namespace)).runs


def left(store: Rig) -> set[str]:
    """Kinds of the keys that are about runs at the provider."""
    kinds = {key.removeprefix(f"{store.namespace.keys.prefix}:") for key in store.all_keys()}
    return {kind.partition(":")[0] for kind in kinds} & {"runs", "early", "polls"}


def test_a_webhook_wakes_the_batch_once_and_before_its_poll(store: Rig) -> None:
    parked(store, wait_s=100)
    assert (store.state(), at_work(store), store.counters()["parked"]) == (PARKED, 1, 1)
    assert store.refused() == "early"
    assert not store.run_ended("run_2")
    assert store.pop() is None
    assert store.run_ended("run_1", "w1")
    assert_a_copy_changes_nothing(store, "land")
    assert at_work(store) == 0
    assert not store.run_ended("run_1", "w1")  # delivered again
    assert store.pop() == "thread"
    assert store.claim().claimed.phase is Phase.RUNNING
    store.check()


def test_a_webhook_that_comes_before_its_batch_is_parked_is_not_lost(store: Rig) -> None:
    lease = claimed(store)
    assert not store.run_ended("run_1", "w1")
    store.await_run(lease, wait_s=100)
    assert store.thread_hash()["due"] == str(store.clock.ms)
    assert at_work(store) == 0
    assert "early" not in left(store)
    lease = store.claim()
    # The look came a moment too early: parked for the same run, it waits for a poll.
    store.await_run(lease, wait_s=100)
    assert store.refused() == "early"
    store.check()


def test_a_webhook_that_comes_while_a_worker_looks_makes_the_next_look_come_at_once(
    store: Rig,
) -> None:
    parked(store)
    store.clock.advance(1)
    lease = store.claim()
    assert not store.run_ended("run_1", "w1")
    store.await_run(lease, wait_s=100)
    assert store.claim()


def test_a_run_of_another_batch_wakes_nothing_and_leaves_nothing(store: Rig) -> None:
    parked(store, "run_1", wait_s=100)
    store.clock.advance(101)
    lease = store.claim()
    store.finish(lease)
    assert not store.run_ended("run_1")
    assert left(store) == {"early", "polls"}
    store.check_idle()


def test_polls_are_spread_over_the_runs_at_work(store: Rig) -> None:
    gap_ms = 20
    dues = []
    for number in range(200):
        parked(store, f"run_{number}", f"thread{number}", wait_s=1)
        dues.append(int(store.thread_hash(f"thread{number}")["due"]) - store.clock.ms)
    assert dues == [max(1000, gap_ms * number) for number in range(1, 201)]
    parked(store, "late", "late", wait_s=1, most_s=0.5)
    assert store.thread_hash("late")["due"] == str(store.clock.ms + 500)


def test_polls_of_a_queue_that_was_away_keep_their_distance(store: Rig) -> None:
    """All workers together make one poll in 20 ms, however many runs are overdue."""
    threads = [f"thread{number}" for number in range(30)]
    for thread in threads:
        parked(store, f"run of {thread}", thread)
    store.clock.advance(1000)
    made: list[int] = []
    for _ in range(40):
        for thread in threads:
            if store.state(thread) is PARKED and isinstance(store.try_claim(thread), Lease):
                made.append(store.clock.ms)
        store.clock.advance(0.02)
    assert len(made) == 30
    assert all(later - earlier >= 20 for earlier, later in pairwise(made))
    store.check()


def test_polls_that_are_overdue_let_a_message_pass(store: Rig) -> None:
    """Each waits for its turn as a due time, not as one of the wake-ups, which are taken in order."""
    threads = [f"thread{number}" for number in range(10)]
    for thread in threads:
        store.add(thread, f"m of {thread}", delay_s=0)
        assert store.pop() == thread
        store.await_run(store.claim(thread), f"run of {thread}")
    store.clock.advance(1000)
    store.sweep()
    assert len(store.queued()) == 1
    store.add("other", "m", delay_s=0)
    assert store.pop() == threads[0]
    assert store.pop() == "other"
    assert isinstance(store.try_claim(threads[0]), Lease)
    for thread in threads[1:]:
        store.clock.advance(0.02)
        store.sweep()
        assert store.pop() == thread
        assert isinstance(store.try_claim(thread), Lease)
    store.check()


def test_a_batch_with_a_wish_is_looked_at_without_a_turn(store: Rig) -> None:
    parked(store, "run_1", "first")
    parked(store, "run_2", "second")
    store.clock.advance(2)
    store.claim("first")
    assert store.stop("second")
    assert store.claim("second").claimed.wish is Wish.STOP
    assert at_work(store) == 0


def test_while_webhooks_come_polls_are_rare(store: Rig) -> None:
    parked(store, "run_1", "first")
    assert store.run_ended("run_1")
    assert store.run(runs_at_work.in_the_air(store.namespace)).webhooks_come
    parked(store, "run_2", "second", wait_s=1)
    assert int(store.thread_hash("second")["due"]) == store.clock.ms + 240_000


def test_a_batch_that_waits_for_room_waits_for_no_run(store: Rig) -> None:
    parked(store, "", wait_s=30, most_s=30)
    assert (store.state(), at_work(store)) == (PARKED, 0)
    store.clock.advance(31)
    assert store.claim()


def test_a_pause_keeps_the_webhook_until_it_ends(store: Rig) -> None:
    parked(store, wait_s=100)
    store.run(control.pause_thread(store.namespace, "thread"))
    assert store.run_ended()
    assert store.pop() is None
    store.run(control.resume_thread(store.namespace, "thread"))
    assert store.pop() == "thread"
    assert store.claim()
    store.check()


def test_a_forgotten_thread_leaves_no_run(store: Rig) -> None:
    parked(store)
    store.run(control.forget(store.namespace, "thread"))
    assert not left(store)


def test_an_interruption_wakes_the_batch(store: Rig) -> None:
    parked(store, wait_s=100)
    store.add(message_id="m9", mid_run="interrupt", delay_s=0)
    assert store.claim().claimed.wish is Wish.INTERRUPT
    assert at_work(store) == 0


def test_a_worker_that_lost_the_lease_parks_nothing(store: Rig) -> None:
    lease = claimed(store)
    store.clock.advance(60)
    store.claim()
    with pytest.raises(LeaseLost):
        store.await_run(lease)
    assert at_work(store) == 0


def test_a_lost_answer_of_parking_changes_nothing(store: Rig) -> None:
    parked(store, wait_s=100)
    assert_a_copy_changes_nothing(store, "await_run")


def test_explain_says_that_the_provider_works(store: Rig) -> None:
    parked(store, wait_s=100)
    found = store.run(explaining.explain(store.namespace, "thread", is_thread=True))
    assert found.verdict == ExplanationVerdict.IN_BACKGROUND
    assert "run_1" in str(found.evidence)


def test_a_foreign_key_in_the_place_of_the_runs_is_quarantined(store: Rig) -> None:
    lease = claimed(store)
    store.client.set(store.namespace.keys.runs, "another program's")
    store.client.lpush(store.namespace.keys.polls, "another program's")
    store.await_run(lease)
    assert at_work(store) == 1
    store.clock.advance(2)
    assert store.claim()


HERE = Path(__file__).parent
PACKED = HERE / "format_1_packed_background.json"
FORMATS = (HERE / "format_1_background.json", PACKED)
"""A batch that waits for a run, one that waits for room, and a webhook that came early, as format 1
has them since; in the second, packed. `write_format` wrote them."""


def write_format(url: str) -> None:
    """Write the fixture, on an empty Redis."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        store = Rig(client, "format")
        parked(store, "run_1", "air", wait_s=100)
        parked(store, "", "room", wait_s=30, most_s=30)
        store.run_ended("run_2")
        told = {"now_ms": store.clock.ms, "keys": dump(client)}
        PACKED.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        client.flushall()


@pytest.mark.parametrize("path", FORMATS, ids=[path.stem for path in FORMATS])
def test_batches_that_an_earlier_version_parked_are_woken_by_this_one(
    one_redis: RedisServer, path: Path
) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    with redis.Redis.from_url(one_redis.url) as client:
        client.flushall()
        restore(client, told["keys"])
        store = Rig(client, "format")
        store.clock.advance((told["now_ms"] - store.clock.ms) / 1000)
        assert (store.state("air"), store.state("room"), at_work(store)) == (PARKED, PARKED, 1)
        assert store.run_ended("run_1")
        lease = store.claim("air", token="later-1", batch_id="later-1")
        assert (lease.claimed.phase, lease.claimed.progress.run_id) == (Phase.RUNNING, "run_1")
        store.await_run(lease, "run_2", wait_s=100)
        assert store.claim("air", token="later-2", batch_id="later-2")
        store.clock.advance(31)
        assert store.claim("room", token="later-3", batch_id="later-3")
        client.flushall()
