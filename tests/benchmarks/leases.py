"""Rows that count: what it takes to keep the leases of one worker process, over a way that is long."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Iterator

from assistant_queue.clock import SystemClock
from assistant_queue.core.window import Window
from assistant_queue.models import Message
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import leases as lease_ops
from assistant_queue.store.ops import producing
from assistant_queue.store.ops.leases import Lease
from assistant_queue.store.transport.connect import sync_client
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.worker.lease import RENEWALS, LeaseKeeper
from tests.benchmarks.bench import PREFIX, Bench
from tests.benchmarks.proxy import Relay
from tests.benchmarks.table import Row

GROUP = "leases"
WAY_S = 0.02


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    count = bench.sizes.leases
    lease_s = 1 + count / 80  # long enough to claim them all before the first is renewed
    bench.client.flushall()
    relay = Relay(bench.redis_port, delay_s=WAY_S, count=True)
    namespace = Namespace(PREFIX, SystemClock())
    keeper = LeaseKeeper(namespace, SyncStore(sync_client(relay.url)), lease_s)
    rounds: list[tuple[int, int]] = []
    has_renewed = threading.Semaphore(0)

    def renewed(_: float) -> None:
        sent = [words for _, words in relay.take() if words[0].upper() == b"EVALSHA"]
        rounds.append((relay.take_trips(), len(sent)))
        has_renewed.release()

    keeper.on_renewed = renewed
    _hold(SyncStore(bench.client), namespace, keeper, count, lease_s)
    pieces = math.ceil(count / RENEWALS)
    for _ in range(2 * pieces):  # the second round has no connection to make
        has_renewed.acquire()
    keeper.close()
    relay.close()
    trips = sum(trips for trips, _ in rounds[-pieces:])
    yield Row(
        group=GROUP, what=f"round trips to renew {count:,} leases once", here=f"{trips}", beside=f"one by one {count:,}",
        ratio=trips / count, target=f"<= {pieces}", met=trips <= pieces,
    )  # fmt: skip
    yield Row(
        group=GROUP,
        what="  renewals in them",
        here=f"{sum(sent for _, sent in rounds[-pieces:]):,}",
        beside=f"leases {count:,}",
    )


def _hold(
    store: SyncStore, namespace: Namespace, keeper: LeaseKeeper, count: int, lease_s: float
) -> None:
    rules = producing.AddRules(window=Window(delay_ms=0), after_run="immediate", max_pending=0)
    for number in range(count):
        thread = f"t{number}"
        store.run(producing.add(namespace, thread, Message(id=thread, content="hi"), rules))
        claimed_at = namespace.clock.monotonic()
        token, batch_id = secrets.token_hex(8), secrets.token_hex(12)
        lease = store.run(
            lease_ops.claim(namespace, thread, token=token, batch_id=batch_id, lease_s=lease_s)
        )
        if not isinstance(lease, Lease):
            raise TypeError(f"{thread} is not claimed: {lease}")
        keeper.hold(lease, claimed_at, 100 * lease_s, lambda: None)
