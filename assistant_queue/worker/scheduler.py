"""The scheduler: timer and sweeper of one worker process, on its own thread."""

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
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import paused_threads
from assistant_queue.store.ops.metric_history import SAMPLE_MS, keep_sample
from assistant_queue.store.ops.questions import rewind_questions, wake_questions
from assistant_queue.store.ops.reply_outbox import rewind_deliveries, wake_deliveries
from assistant_queue.store.ops.server_info import read_server
from assistant_queue.store.ops.sweeping import (
    SWEEP_LIMIT,
    DueScan,
    end_waits,
    rewind,
    step_down,
    takes_writes,
    watch,
)
from assistant_queue.store.transport.channels import ChannelListener
from assistant_queue.store.transport.connect import fresh
from assistant_queue.store.transport.pinned import PinnedConnection
from assistant_queue.store.transport.refusals import translate
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.worker.outage import PASSES, Outage, pause_s

_log = logging.getLogger(__name__)

SWEEP_INTERVAL_S = 1.0
"""Seconds between two looks at most. Source: docs/reliability.md, "within the lease plus two
seconds"."""
_AWAY_S = 0.5
"""Seconds until a Redis that is away or refuses is tried again, and between its return and the
first look: leases are renewed in that time, and their threads not taken over. Chosen: twice the
time between two tries of a renewal, and within the interval together."""
_BACK_MS = 1000
"""Milliseconds by which the clock of Redis must be behind to count as set back. Chosen: clocks are
slewed by less between two looks."""
SERVER_LOOK_S = 30.0
"""Seconds between two looks at the server itself. Chosen: hardly any cost; after an outage it is
looked at again at once."""
_COARSE_S = 0.002
"""Seconds of the last part of a wait, which is a plain sleep. A socket's time-outs are whole ms,
rounded up. Chosen: one ms, and one to spare."""


class Scheduler:
    """Wakes threads when they are due or overdue.

    `quiet` can be taken while it only waits: a process that forks does so then, or the child could
    inherit a lock that no thread releases.

    1. one scheduler per queue is the leader: it sleeps until the earliest due time and is woken by
       pub/sub when an earlier one appears; followers look once a second and take over when the
       leader steps down or its term expires
    2. at the due time moves the thread's wake-up from RQ's schedule to RQ's queue, and looks for
       the next in the same round trip
    3. wakes no thread before a Redis that was away has accepted writes for a moment: leases that
       lapsed meanwhile are renewed first
    4. at least once a second looks for threads that are overdue - a lost job, a dead worker, a
       lapsed lease - and wakes a worker
    5. moves the times of all threads when the clock of Redis is set back
    6. wakes workers for replies that no process delivers, and questions that none asks
    7. reports a Redis that evicts after a failover
    8. keeps a sample of the metrics once a minute, for their history
    9. completes the list of paused threads once a day, in small steps
    """

    def __init__(self, namespace: Namespace, client: Any, outage: Outage | None = None) -> None:
        """Start nothing yet; `client` is copied; `outage` is the worker's."""
        self._namespace = namespace
        self._outage = outage or Outage()
        self._outage_met = False
        self._client = fresh(client)
        self._store = SyncStore(
            self._client,
            execute=PinnedConnection(self._client).execute,
            has_served=True,
            namespaces=(namespace,),
        )
        self._id = secrets.token_hex(8)
        self._seen_ms = self._seen_s = 0.0
        self._look_at_server_s = time.monotonic() + SERVER_LOOK_S
        self._look_at_deliveries_s = 0.0
        self._sample_at_s = time.monotonic() + SAMPLE_MS / 1000
        self._walk_at_s = self._sample_at_s
        self._walk: int | None = None
        self._evicts = False
        self._stop = threading.Event()
        self.quiet = threading.Lock()
        self._thread = threading.Thread(
            target=self._run, name="assistant-queue-scheduler", daemon=True
        )

    @property
    def is_alive(self) -> bool:
        """Its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, step down, and close the connections."""
        self._stop.set()
        if self._thread.is_alive():
            with contextlib.suppress(StoreError, ConfigurationError):
                # Without the message the thread wakes by itself within a second.
                SyncStore(self._client).run(end_waits(self._namespace))
            self._thread.join(timeout=SWEEP_INTERVAL_S + 4)
        with contextlib.suppress(StoreError, ConfigurationError):  # else its term runs out
            self._store.run(step_down(self._namespace, self._id))
        self._store.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._outage_met:
                    self._store.run(takes_writes(self._namespace))
                    self._stop.wait(_AWAY_S)
                    self._outage_met = False
                    continue
                with ChannelListener(self._client) as news:
                    self._watch(news)
            except PASSES as error:
                self._wait_out(error)
            except (exceptions.RedisError, OSError) as error:  # of the connection that listens
                self._wait_out(translate(error, has_served=True))
            except Exception:  # noqa: BLE001 - without a scheduler no thread is woken
                _log.exception("the scheduler failed; it continues")
                self._stop.wait(SWEEP_INTERVAL_S)

    def _wait_out(self, error: Exception) -> None:
        self._outage.failed("scheduler", error)
        self._outage_met = True
        self._look_at_server_s = 0.0
        self._stop.wait(pause_s(error, _AWAY_S))

    def _watch(self, news: ChannelListener) -> None:
        expected = ""
        while not self._stop.is_set():
            with self.quiet:
                seen = self.look(expected)
                expected = ""
                self._outage.passed("scheduler")
                if seen.is_leader and time.monotonic() >= self._look_at_deliveries_s:
                    self._look_at_deliveries_s = time.monotonic() + SWEEP_INTERVAL_S
                    self._store.run(wake_deliveries(self._namespace))
                    self._store.run(wake_questions(self._namespace))
                if seen.is_leader and time.monotonic() >= self._sample_at_s:
                    self._sample_at_s = time.monotonic() + SAMPLE_MS / 1000
                    self._store.run(keep_sample(self._namespace))
                if seen.is_leader and time.monotonic() >= self._walk_at_s:
                    self._walk_on()
                if time.monotonic() >= self._look_at_server_s:
                    self._look_at_server()
                # The leader listens for earlier due times, followers for the leader's step-down.
                concerns = (
                    self._namespace.keys.tick if seen.is_leader else self._namespace.keys.leader
                )
                if news.listen(concerns):
                    continue  # a message sent before the subscription is seen by another look
            wait_s = _wait_s(seen)
            if wait_s > 0 and not self._is_woken(news, wait_s):
                expected = seen.next_thread

    def _walk_on(self) -> None:
        """Take a step of the walk that finds threads which an earlier version paused."""
        self._walk = self._store.run(paused_threads.walk_on(self._namespace, self._walk))
        self._walk_at_s = time.monotonic() + (
            SAMPLE_MS / 1000 if self._walk is None else SWEEP_INTERVAL_S
        )

    def _look_at_server(self) -> None:
        """Report a Redis that evicts: after a failover another server answers than at the start."""
        self._look_at_server_s = time.monotonic() + SERVER_LOOK_S
        server = self._store.run(read_server(("memory",)))
        evicted, self._evicts = self._evicts, server.evicts
        if server.evicts and not evicted:
            _log.error(
                "queue %r: the Redis that answers now has maxmemory-policy %s: it may throw "
                "accepted messages away when its memory is full; set maxmemory-policy noeviction",
                self._namespace.prefix,
                server.eviction,
            )

    def _is_woken(self, news: ChannelListener, wait_s: float) -> bool:
        """Wait; return early, with True, on a message of the channel.

        A message in the last moment is seen by the look that follows.
        """
        until = time.monotonic() + wait_s
        if wait_s > _COARSE_S:
            if news.wait(wait_s - _COARSE_S):
                return True
            if until - time.monotonic() > _COARSE_S:
                # The confirmation of the subscription: another look sees any message before it.
                return True
        time.sleep(max(until - time.monotonic(), 0.0))
        return False

    def look(self, expected: str = "") -> DueScan:
        """Look once; `expected` is the thread that the last look found to be due now."""
        began_s = time.monotonic()
        seen = self._store.run(watch(self._namespace, self._id, expected))
        # Redis read its clock for the last look before the reply arrived, and for this one after
        # the command was sent.
        back_ms = self._seen_ms + (began_s - self._seen_s) * 1000 - seen.now_ms
        if self._seen_ms and back_ms > _BACK_MS:
            moved = self._store.run(rewind(self._namespace, round(back_ms)))
            self._store.run(rewind_deliveries(self._namespace, round(back_ms)))
            self._store.run(rewind_questions(self._namespace, round(back_ms)))
            _log.warning(
                "queue %r: the clock of Redis was set back by %.1f s; the times of %d threads were "
                "moved",
                self._namespace.prefix,
                back_ms / 1000,
                moved,
            )
        self._seen_ms = seen.now_ms
        self._seen_s = time.monotonic()
        return seen


def _wait_s(seen: DueScan) -> float:
    """Return the seconds until the next look."""
    if not seen.is_leader:
        # However many are overdue: all followers would see the same ones, and slow Redis down. The
        # jitter keeps them from looking at the same moment.
        return SWEEP_INTERVAL_S * random.uniform(0.8, 1.0)  # noqa: S311 - not for secrets
    if seen.overdue >= SWEEP_LIMIT - 1:  # and the one that was expected
        return 0.0
    if seen.next_due_in_ms is None:
        return SWEEP_INTERVAL_S
    return min(seen.next_due_in_ms / 1000, SWEEP_INTERVAL_S)
