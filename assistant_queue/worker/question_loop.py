"""Questions of a concurrent worker: asks what is due, beside its runs and deliveries."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from assistant_queue.errors import StoreError
from assistant_queue.store.ops.questions import DueQuestion
from assistant_queue.worker.outage import PASSES, pause_s

if TYPE_CHECKING:
    from assistant_queue.worker.runtime import Runtime

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""Seconds between two looks for due questions at most. Chosen: as of a look for deliveries."""
_AT_ONCE = 4
"""Questions that one process asks at the same time. Chosen: in one chat they are sent one after the
other, so the last of them still has most of its lease."""
_MOST_PAGES = 20
"""Pages of due questions of one look. Chosen: as those of a look for deliveries."""
_AWAY_S = 1.0
"""Seconds until a Redis that is away or refuses is asked again. Chosen: as of a look for
deliveries."""


class QuestionLoop:
    """Asks about open calls, and shows how they were settled, beside the worker's runs.

    1. looks at once when a batch parks here, or one that was parked continues
    2. looks at least once a second, and when a question that was postponed is due, for others
    """

    def __init__(self, runtimes: Sequence[Runtime]) -> None:
        """Start nothing yet."""
        self._runtimes = [runtime for runtime in runtimes if runtime.questions.is_on]
        self._kicked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False
        for runtime in self._runtimes:
            runtime.questions.on_news = self._kick

    @property
    def running(self) -> int:
        """Questions that are being asked."""
        return sum(len(runtime.questions.tasks) for runtime in self._runtimes)

    def start(self) -> None:
        """Start looking."""
        if self._runtimes:
            self._task = asyncio.create_task(self._run())

    async def drain(self, timeout_s: float) -> None:
        """Take no more; let questions end for a while, and leave the rest to other workers."""
        self._is_stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        tasks = self._all_tasks()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        self.cut_off()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut_off(self) -> None:
        """End what is being asked."""
        for task in self._all_tasks():
            task.cancel()

    def _all_tasks(self) -> list[asyncio.Task[None]]:
        return [task for one in self._runtimes for task in one.questions.tasks.values()]

    def _kick(self, wait_s: float) -> None:
        if wait_s:
            asyncio.get_running_loop().call_later(wait_s, self._kicked.set)
        else:
            self._kicked.set()

    async def _run(self) -> None:
        while not self._is_stopping:
            self._kicked.clear()
            wait_s = _LOOK_S * random.uniform(0.8, 1.0)  # noqa: S311 - not for secrets
            for runtime in self._runtimes:
                try:
                    wait_s = min(wait_s, await self._look(runtime))
                except PASSES as error:
                    runtime.outage.failed("questions", error)
                    await asyncio.sleep(pause_s(error, _AWAY_S))
                except StoreError as error:
                    _log.warning("due questions cannot be found: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._kicked.wait()

    async def _look(self, runtime: Runtime) -> float:
        """Ask what is due; return the seconds until the next question is due."""
        offset = 0
        for _ in range(_MOST_PAGES):
            if self.running >= _AT_ONCE:
                return _LOOK_S  # one that ends has the loop look again
            found = await runtime.questions.find(offset)
            runtime.outage.passed("questions")
            for due in found.due:
                if self.running >= _AT_ONCE:
                    return _LOOK_S
                self._begin(runtime, due)
            if found.is_whole:
                return _LOOK_S if found.next_due_in_s is None else found.next_due_in_s + 0.001
            offset += len(found.due)
        return _LOOK_S

    def _begin(self, runtime: Runtime, due: DueQuestion) -> None:
        """Ask in the background, if a channel of this worker does, and is not at it already."""
        ours = runtime.questions
        if due.call_id not in ours.tasks and ours.channel_of(due.thread_id) is not None:
            ours.begin(due.call_id, ours.handle(due))
