"""Deliveries of a concurrent worker: claims what is due, in slots beside those of its runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from assistant_queue.channels.channel import channel_of
from assistant_queue.errors import StoreError
from assistant_queue.store.ops import reply_outbox
from assistant_queue.store.ops.reply_outbox import DeliveryLease, DueDelivery
from assistant_queue.user_code.error_text import log_raised
from assistant_queue.worker.outage import PASSES, pause_s

if TYPE_CHECKING:
    from assistant_queue.worker.runtime import Runtime

_log = logging.getLogger(__name__)

_Platform = tuple[int, str]
"""A runtime, and the name of a channel; "" for `on_reply`."""

LOOK_S = 1.0
"""Seconds between two looks for due deliveries at most. Source: docs/reliability.md, "within the
lease plus two seconds"."""
_MOST_PAGES = 20
"""Pages of due deliveries of one look. Chosen: two thousand chats of a platform that is away are
passed over at once."""
_MOST_KEPT = 1000
"""Passed deliveries of a platform that are remembered. Chosen: more than are delivered between two
whole looks."""
_WHOLE_S = 0.5
"""Seconds between two looks at everything that is due. Chosen: half of `LOOK_S`, so that what
another worker leaves is found by the second look at the latest."""
_AWAY_S = 1.0
"""Seconds until a Redis that is away or refuses is asked again. Chosen: an outage of a moment is
over by then."""


class _Passed:
    """Due deliveries that wait for a slot of their platform: the head of the line of a queue.

    With it, a look reads what comes after them, and the next one for a free slot is known.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.count = 0
        self.expires = 0.0
        self.is_whole = True
        self.lines: defaultdict[_Platform, deque[DueDelivery]] = defaultdict(deque)

    def refresh(self, now: float) -> None:
        """Forget what may have changed, once all of the line was read."""
        if self.is_whole and now >= self.expires:
            self.count = 0
            self.lines.clear()
            self.expires = now + _WHOLE_S

    def add(self, platform: _Platform, due: DueDelivery) -> None:
        """Note a delivery that has to wait."""
        self.count += 1
        if len(self.lines[platform]) < _MOST_KEPT:
            self.lines[platform].append(due)

    def pop(self, platform: _Platform) -> DueDelivery:
        """Return the first one of a platform; it leaves the line."""
        self.count -= 1
        return self.lines[platform].popleft()


class DeliveryLoop:
    """Delivers replies beside the worker's runs.

    1. takes the delivery of a batch that ended here at once, if a slot is free
    2. looks at least once a second, and when a postponed delivery is due, for others
    3. delivers at most `delivery_concurrency` threads' replies at the same time for each platform:
       one that does not answer takes the slots of its chats alone
    """

    def __init__(self, runtimes: Sequence[Runtime], slots: int) -> None:
        """Start nothing yet."""
        self._runtimes = [runtime for runtime in runtimes if runtime.delivers]
        self._slots = slots
        self._tasks: dict[asyncio.Task[None], _Platform] = {}
        self._busy: Counter[_Platform] = Counter()
        self._promised: dict[str, tuple[_Platform, float]] = {}
        self._passed: defaultdict[int, _Passed] = defaultdict(_Passed)
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

    def token(self, runtime: Runtime, thread_id: str) -> str:
        """Return a fresh token if a delivery can begin at once; "" if it has to wait.

        The slot is kept until `take` or `release`, or for as long as a lease lasts.
        """
        platform = _platform(runtime, thread_id)
        if self._is_stopping or self._is_full(platform):
            return ""
        token = secrets.token_hex(8)
        until = asyncio.get_running_loop().time() + runtime.config.lock_duration
        self._promised[token] = (platform, until)
        return token

    def release(self, token: str) -> None:
        """Give the slot of a token back that did not become a delivery."""
        self._promised.pop(token, None)

    def _is_full(self, platform: _Platform) -> bool:
        now = asyncio.get_running_loop().time()
        for token in [one for one, (_, until) in self._promised.items() if until < now]:
            self.release(token)
        promised = sum(one == platform for one, _ in self._promised.values())
        return self._busy[platform] + promised >= self._slots

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
        self.release(lease.token)
        task = asyncio.create_task(self._deliver(runtime, lease, claimed_at, is_claimed))
        platform = _platform(runtime, lease.thread_id)
        self._tasks[task] = platform
        self._busy[platform] += 1
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
        platform = self._tasks.pop(task)
        self._busy[platform] -= 1
        if not self._busy[platform]:
            del self._busy[platform]
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
        platforms = ["", *(channel.name for channel in runtime.config.channels)]
        if all(self._is_full((id(runtime), name)) for name in platforms):
            return LOOK_S
        passed = self._passed[id(runtime)]
        passed.refresh(asyncio.get_running_loop().time())
        for platform, line in list(passed.lines.items()):
            while line and not self._is_full(platform):
                await self._claim(runtime, passed.pop(platform))
        for _ in range(_MOST_PAGES):
            found = await runtime.store.run(
                reply_outbox.find_due(runtime.namespace, offset=passed.count)
            )
            runtime.outage.passed("deliveries")
            passed.is_whole = len(found.due) < reply_outbox.DUE_LIMIT
            for due in found.due:
                platform = _platform(runtime, due.thread_id)
                if self._is_full(platform):
                    passed.add(platform, due)
                else:
                    await self._claim(runtime, due)
            if passed.is_whole:
                return LOOK_S if found.next_due_in_s is None else found.next_due_in_s + 0.001
        return LOOK_S  # the next look continues there

    async def _claim(self, runtime: Runtime, due: DueDelivery) -> None:
        claimed_at = runtime.clock.monotonic()
        lease = await runtime.claim_delivery(due, guard=False)
        if lease is not None:
            self.take(runtime, lease, claimed_at, is_claimed=True)


def _platform(runtime: Runtime, thread_id: str) -> _Platform:
    channel = channel_of(thread_id, runtime.config.channels)
    return id(runtime), "" if channel is None else channel.name
