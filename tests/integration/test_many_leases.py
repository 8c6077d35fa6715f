"""Four hundred leases at once, over a network of eighty milliseconds."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator

import pytest
import redis

from assistant_queue import AssistantMessageQueue, Batch
from assistant_queue.clock import SystemClock
from assistant_queue.core.window import Window
from assistant_queue.models import Message
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import leases as lease_ops
from assistant_queue.store.ops import producing
from assistant_queue.store.ops.leases import Lease, NoLease
from assistant_queue.store.transport.connect import sync_client
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.worker.lease import HeldLease, LeaseKeeper
from tests.benchmarks.proxy import Relay
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import wait_until

LEASES = 400
WAY_S = 0.08
LEASE_S = 5.0
RULES = producing.AddRules(window=Window(delay_ms=0), after_run="immediate", max_pending=0)


class Scene:
    """Threads with leases that one keeper holds, and another worker that claims them."""

    def __init__(self, url: str, far_url: str, prefix: str) -> None:
        self.namespace = Namespace(prefix, SystemClock())
        self.near = SyncStore(redis.Redis.from_url(url))
        self.keeper = LeaseKeeper(self.namespace, SyncStore(sync_client(far_url)), LEASE_S)
        self.threads = [f"t{number}" for number in range(LEASES)]
        self.lost: list[str] = []
        self.renewed: dict[str, int] = dict.fromkeys(self.threads, 0)

    def hold_all(self) -> list[HeldLease]:
        return [self._hold(thread) for thread in self.threads]

    def _hold(self, thread: str) -> HeldLease:
        self.near.run(
            producing.add(
                self.namespace, thread, Message(id=secrets.token_hex(8), content="hi"), RULES
            )
        )
        claimed_at = self.namespace.clock.monotonic()
        lease = self.claim(thread)
        assert isinstance(lease, Lease)
        held = self.keeper.hold(lease, claimed_at, 10 * LEASE_S, lambda: self.lost.append(thread))
        extend = held.extend

        def extended(asked_at: float, lease_s: float, renewed: lease_ops.Renewed) -> None:
            self.renewed[thread] += 1
            extend(asked_at, lease_s, renewed)

        held.extend = extended  # type: ignore[method-assign]
        return held

    def claim(self, thread: str) -> Lease | NoLease:
        """Claim the thread, as another worker does when it is woken."""
        token, batch_id = secrets.token_hex(8), secrets.token_hex(12)
        return self.near.run(
            lease_ops.claim(self.namespace, thread, token=token, batch_id=batch_id, lease_s=LEASE_S)
        )

    def forget_all(self) -> None:
        names = list(self.near.client.scan_iter(match=f"*{self.namespace.prefix}*", count=1000))
        self.near.client.delete(*names)
        self.near.close()


@pytest.fixture
def scene(one_redis: RedisServer, prefix: str) -> Iterator[Scene]:
    relay = Relay(one_redis.port, delay_s=WAY_S)
    made = Scene(one_redis.url, relay.url, prefix)
    yield made
    made.keeper.close()
    made.forget_all()
    relay.close()


def test_four_hundred_leases_are_kept_over_a_way_of_eighty_milliseconds(scene: Scene) -> None:
    scene.hold_all()
    while (
        min(scene.renewed.values()) < 3
    ):  # the third comes when the lease would have lapsed without any
        for thread in scene.threads[:: LEASES // 10]:
            refusal = scene.claim(thread)
            assert isinstance(refusal, NoLease), (
                f"{thread} was taken over, after {scene.renewed[thread]} renewals"
            )
    assert scene.lost == []
    assert all(isinstance(scene.claim(thread), NoLease) for thread in scene.threads)


def test_one_lost_lease_among_many_is_reported_and_costs_no_other(scene: Scene) -> None:
    scene.hold_all()
    scene.near.client.hset(scene.namespace.keys.thread("t7"), "token", "another's")
    scene.near.client.hset(
        scene.namespace.keys.thread("t9"), "n", "no number"
    )  # foreign: it is moved aside
    wait_until(lambda: set(scene.lost) == {"t7", "t9"}, "the two are told")
    wait_until(
        lambda: min(count for name, count in scene.renewed.items() if name not in scene.lost) >= 2,
        "the others are renewed",
    )
    assert scene.near.client.zcard(scene.namespace.keys.quarantine) == 1


def test_a_worker_whose_renewals_are_slow_takes_fewer_runs_at_once(
    one_redis: RedisServer, prefix: str
) -> None:
    lock = threading.Lock()
    running = 0
    most = 0
    answered = 0

    def answer(_: Batch) -> str:
        nonlocal running, most, answered
        with lock:
            running += 1
            most = max(most, running)
        wait_until(
            lambda: waiting() > 0 or running > 1 or answered == 5, "another run would have its turn"
        )
        with lock:
            running -= 1
            answered += 1
        return "hi"

    def waiting() -> int:
        return int(client.llen(f"rq:queue:{prefix}"))

    options = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "message_delay": 0,
        "concurrency": 4,
    }
    with (
        redis.Redis.from_url(one_redis.url) as client,
        AssistantMessageQueue(backend=answer, **options) as queue,
    ):
        worker = queue.start_worker()
        room = worker._worker._room
        worker._worker.runtime.keeper.on_renewed(0.9)
        wait_until(lambda: room.limit == 1, "the worker has been told")
        receipts = [queue.add_message_to_thread(f"t{number}", "hi") for number in range(6)]
        assert [queue.wait_for_reply(receipt.message_id, PATIENCE_S) for receipt in receipts] == [
            "hi"
        ] * 6
        worker.stop()
    assert most == 1
