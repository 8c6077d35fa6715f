"""Deliveries of a concurrent worker: claims what is due, in slots beside those of its runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from assistant_queue.errors import StoreError
from assistant_queue.store.ops import reply_outbox
from assistant_queue.store.ops.reply_outbox import DeliveryLease
from assistant_queue.user_code.error_text import log_raised
from assistant_queue.worker.outage import PASSES, pause_s

if TYPE_CHECKING:
    from assistant_queue.worker.runtime import Runtime

_log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Seconds between two looks for due deliveries at most. Source: docs/reliability.md, "within the
lease plus two seconds"."""
_AWAY_S = 1.0
"""Seconds until a Redis that is away or refuses is asked again. Chosen: an outage of a moment is
over by then."""


class DeliveryLoop:
    """Delivers replies beside the worker's runs.

    1. takes the delivery of a batch that ended here at once, if a slot is free
    2. looks at least once a second, and when a postponed delivery is due, for others
    3. delivers at most `delivery_concurrency` threads' replies at the same time
    """

    def __init__(self, runtimes: Sequence[Runtime], slots: int) -> None:
        """Start nothing yet."""
        self._runtimes = [runtime for runtime in runtimes if runtime.delivers]
        self._slots = slots
        self._tasks: set[asyncio.Task[None]] = set()
        self._kicked = asyncio.Event()
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None
        for runtime in self._runtimes:
            runtime.delivery_loop = self

    @property
    def running(self) -> int:
        """Threads with replies that are being delivered."""
        return len(self._tasks)

    def start(self) -> None:
        """Start looking."""
        if self._runtimes:
            self._task = asyncio.create_task(self._run())

    def token(self) -> str:
        """Return a fresh token if a delivery can begin at once; "" if it has to wait."""
        is_free = len(self._tasks) < self._slots and not self._is_stopping
        return secrets.token_hex(8) if is_free else ""

    def kick(self) -> None:
        """Look now."""
        self._kicked.set()

    def kick_after(self, wait_s: float) -> None:
        """Look when a delivery that was postponed is due."""
        asyncio.get_running_loop().call_later(wait_s, self.kick)

    def take(
        self, runtime: Runtime, lease: DeliveryLease, claimed_at: float, *, is_claimed: bool
    ) -> None:
        """Deliver in the background."""
        task = asyncio.create_task(self._deliver(runtime, lease, claimed_at, is_claimed))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def drain(self, timeout_s: float) -> None:
        """Take no more; let deliveries end for a while, and hand the rest back."""
        self._is_stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        self.hand_back()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hand_back(self) -> None:
        """Hand back at once what is being delivered."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._kicked.set()

    async def _deliver(
        self, runtime: Runtime, lease: DeliveryLease, claimed_at: float, is_claimed: bool
    ) -> None:
        try:
            await runtime.deliver(lease, claimed_at, is_claimed=is_claimed)
        except asyncio.CancelledError:
            _log.info("thread %r: its delivery was handed back", lease.thread_id)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - one thread must not stop the worker
            what = "thread %r: its delivery failed; it is tried again when its lease has lapsed"
            log_raised(_log, what, lease.thread_id, error=error, is_ours=True)

    async def _run(self) -> None:
        while not self._is_stopping:
            self._kicked.clear()
            wait_s = LOOK_S * random.uniform(0.8, 1.0)  # noqa: S311 - not for secrets
            for runtime in self._runtimes:
                try:
                    wait_s = min(wait_s, await self._look(runtime))
                except PASSES as error:
                    runtime.outage.failed("deliveries", error)
                    await asyncio.sleep(pause_s(error, _AWAY_S))
                except StoreError as error:
                    _log.warning("due deliveries cannot be found: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._kicked.wait()

    async def _look(self, runtime: Runtime) -> float:
        """Claim what is due; return the seconds until the next delivery is due."""
        free = self._slots - len(self._tasks)
        if free <= 0:
            return LOOK_S
        found = await runtime.store.run(reply_outbox.find_due(runtime.namespace, free))
        runtime.outage.passed("deliveries")
        for due in found.due:
            claimed_at = runtime.clock.monotonic()
            lease = await runtime.claim_delivery(due, guard=False)
            if lease is not None:
                self.take(runtime, lease, claimed_at, is_claimed=True)
        return LOOK_S if found.next_due_in_s is None else found.next_due_in_s + 0.001
