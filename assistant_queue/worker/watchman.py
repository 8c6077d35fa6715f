"""The watchman: timer and sweeper of one worker process, on a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import random
import secrets
import threading
import time
from typing import Any

from redis import exceptions

from assistant_queue.errors import ConfigurationError, StoreError
from assistant_queue.store.calls import Space
from assistant_queue.store.connect import fresh
from assistant_queue.store.examining import read_server
from assistant_queue.store.lane import Lane
from assistant_queue.store.refusals import translate
from assistant_queue.store.stores import SyncStore
from assistant_queue.store.sweeping import SWEEP_LIMIT, Watch, resign, rewind, takes_writes, watch
from assistant_queue.worker.outage import PASSES, Outage, pause_s

_log = logging.getLogger(__name__)

SWEEP_INTERVAL_S = 1.0
"""The longest time between two looks. Source: docs/reliability.md, "within the lease plus two seconds"."""
_AWAY_S = 0.5
"""Seconds until a Redis that is away or refuses is tried again, and between its return and the first look: batches that are held are
renewed in that time, and not taken over. Chosen: twice the time between two tries of a renewal, and within the interval together."""
_BACK_MS = 1000
"""By how much the clock of Redis must be behind to count as set back. Chosen: clocks are slewed by less between two looks."""
SERVER_LOOK_S = 30.0
"""Seconds between two looks at the server itself. Chosen: hardly any cost; after an outage it is looked at again at once."""
_COARSE_S = 0.002
"""The last part of a wait, which nothing interrupts. A socket's time-outs are whole ms, rounded up. Chosen: one ms, and one to spare."""


class Watchman:
    """Sees to it that threads are woken on time, and that none is forgotten.

    `quiet` can be taken while it only waits: a process that forks does so then, or the child could inherit a lock that nobody releases.

    1. one watchman of all processes keeps the time: it sleeps until the earliest due time, and is told (by a channel) when an earlier one
       appears; the others only look once a second, and take over at once when it resigns
    2. at the due time moves the thread's wake-up from RQ's schedule to RQ's queue, and looks for the next in the same round trip
    3. wakes no thread before a Redis that was away has taken writes for a moment: leases that lapsed meanwhile are renewed first
    4. at least once a second looks for threads that are overdue - a lost job, a dead worker, a lapsed lease - and wakes a worker
    5. moves the times of all threads when the clock of Redis is set back
    6. reports a Redis that evicts, when another one answers than before
    """

    def __init__(self, space: Space, client: Any, outage: Outage | None = None) -> None:
        """`client` is copied: the watchman has connections of its own; `outage` is the worker's."""
        self._space = space
        self._outage = outage or Outage()
        self._outage_met = False
        self._client = fresh(client)
        self._store = SyncStore(self._client, execute=Lane(self._client).execute, has_served=True, spaces=(space,))
        self._id = secrets.token_hex(8)
        self._seen_ms = self._seen_s = 0.0
        self._look_at_server_s = time.monotonic() + SERVER_LOOK_S
        self._evicts = False
        self._stop = threading.Event()
        self.quiet = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="assistant-queue-watchman", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, leave the time to another, and give the connections back."""
        self._stop.set()
        if self._thread.is_alive():
            with contextlib.suppress(exceptions.RedisError):  # without the word it wakes by itself within a second
                self._client.publish(self._space.keys.tick, "0")
                self._client.publish(self._space.keys.timer, "")
            self._thread.join(timeout=SWEEP_INTERVAL_S + 4)
        with contextlib.suppress(StoreError, ConfigurationError):  # else its term runs out
            self._store.run(resign(self._space, self._id))
        self._store.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._outage_met:
                    self._store.run(takes_writes(self._space))
                    self._stop.wait(_AWAY_S)
                    self._outage_met = False
                    continue
                with self._client.pubsub(ignore_subscribe_messages=True) as news:
                    self._watch(news)
            except PASSES as error:
                self._wait_out(error)
            except (exceptions.RedisError, OSError) as error:  # of the connection that listens
                self._wait_out(translate(error, has_served=True))
            except Exception:  # noqa: BLE001 - whatever it stumbled over, without it threads are forgotten
                _log.exception("the watchman stumbled; it goes on")
                self._stop.wait(SWEEP_INTERVAL_S)

    def _wait_out(self, error: Exception) -> None:
        self._outage.failed("watchman", error)
        self._outage_met = True
        self._look_at_server_s = 0.0
        self._stop.wait(pause_s(error, _AWAY_S))

    def _watch(self, news: Any) -> None:
        listens, expected = "", ""
        while not self._stop.is_set():
            with self.quiet:
                seen = self.look(expected)
                expected = ""
                self._outage.passed("watchman")
                if time.monotonic() >= self._look_at_server_s:
                    self._look_at_server()
                # A due time that is earlier than all others concerns the timer alone; that it resigns concerns the others.
                concerns = self._space.keys.tick if seen.keeps_time else self._space.keys.timer
                if concerns != listens:
                    news.subscribe(concerns)
                    if listens:
                        news.unsubscribe(listens)
                    listens = concerns
                    continue  # what was said before it listened is seen by another look
            wait_s = _wait_s(seen)
            if wait_s > 0 and not self._is_told(news, wait_s):
                expected = seen.next_thread

    def _look_at_server(self) -> None:
        """Report a Redis that evicts: after a failover another server answers than the one that the worker looked at when it started."""
        self._look_at_server_s = time.monotonic() + SERVER_LOOK_S
        server = self._store.run(read_server(("memory",)))
        evicted, self._evicts = self._evicts, server.evicts
        if server.evicts and not evicted:
            _log.error(
                "queue %r: the Redis that answers now has maxmemory-policy %s: it may throw accepted messages away when its memory is "
                "full; set maxmemory-policy noeviction",
                self._space.prefix, server.eviction,
            )  # fmt: skip

    def _is_told(self, news: Any, wait_s: float) -> bool:
        """Wait, until something is said at most. What is said in the last moment is seen by the look that follows."""
        until = time.monotonic() + wait_s
        if wait_s > _COARSE_S:
            if news.get_message(timeout=wait_s - _COARSE_S) is not None:
                return True
            if until - time.monotonic() > _COARSE_S:
                return True  # that it listens from now on: what was said before that is seen by another look, too
        time.sleep(max(until - time.monotonic(), 0.0))
        return False

    def look(self, expected: str = "") -> Watch:
        """Look once; `expected` is the thread whose time has come, as the last look said."""
        began_s = time.monotonic()
        seen = self._store.run(watch(self._space, self._id, expected))
        # Redis said the time of the last look before that look's reply was here, and of this one after it was asked.
        back_ms = self._seen_ms + (began_s - self._seen_s) * 1000 - seen.now_ms
        if self._seen_ms and back_ms > _BACK_MS:
            moved = self._store.run(rewind(self._space, round(back_ms)))
            _log.warning(
                "queue %r: the clock of Redis was set back by %.1f s; the times of %d threads were moved",
                self._space.prefix, back_ms / 1000, moved,
            )  # fmt: skip
        self._seen_ms, self._seen_s = seen.now_ms, time.monotonic()
        return seen


def _wait_s(seen: Watch) -> float:
    """Seconds until another look is worth it."""
    if not seen.keeps_time:
        # However many are overdue: all watchmen would see the same ones, and Redis would be the slower for it.
        return SWEEP_INTERVAL_S * random.uniform(0.8, 1.0)  # noqa: S311 - only so that they do not all look at once
    if seen.overdue >= SWEEP_LIMIT - 1:  # and the one that was expected
        return 0.0
    if seen.next_due_in_ms is None:
        return SWEEP_INTERVAL_S
    return min(seen.next_due_in_ms / 1000, SWEEP_INTERVAL_S)
