"""Wishes for a batch while its steps are carried out: they end a long step, and reach the flow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.wishes import Wish, Wished
from assistant_queue.user_code.running_calls import post
from assistant_queue.worker.leased_batch import LeasedBatch

_ENDED_EARLY = frozenset(
    {
        steps.Separate,
        steps.Instruct,
        steps.Answer,
        steps.EnterExclusive,
        steps.FallBack,
        steps.Follow,
        steps.Watch,
        steps.Find,
    }
)
"""Steps that may take long and start no work at the provider."""

_STARTS = frozenset({steps.Start, steps.Submit})
"""Steps that start work, which is known by an id when they return."""

START_PATIENCE_S = 0.5
"""Seconds for a request that starts work to return its id before it is cut off. Chosen: servers name
a run at once, and the grace of a request whose answer is not known is much longer."""


class Interruption:
    """Throws wishes into the flow.

    1. before a step that sends or waits, if there is a wish that the flow does not know
    2. within such a step: it is cancelled; a request that starts work is given a moment first
    3. never within a write

    Each wish is thrown once.
    """

    def __init__(self, batch: LeasedBatch, *, waits_for_ids: bool) -> None:
        """`waits_for_ids`: work that was started is found again by its id."""
        self._batch = batch
        self._held = batch.held
        self._patience_s = START_PATIENCE_S if waits_for_ids else 0.0
        self._loop = loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._step: type[Any] | None = None
        self._has_cancelled = False
        self._held.on_wish = lambda: post(loop, self._obey)

    def _pending(self) -> Wish | None:
        wish = self._held.wish
        return None if wish is self._batch.seen else wish

    async def carry_out(self, step: steps.Step, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Carry out a step.

        Raises:
            Wished: There is a wish that the flow does not know yet; the step was not begun, or was
                cancelled.
        """
        kind = type(step)
        leaves = kind is steps.Save and step.leaves  # type: ignore[union-attr]  # a Save
        if not leaves and kind not in _ENDED_EARLY and kind not in _STARTS:
            return await handler(step)
        if self._pending() is not None:
            raise self._wished(unsent=kind in _STARTS)
        if leaves:
            return await handler(step)
        self._task = asyncio.current_task()
        self._step = kind
        try:
            return await handler(step)
        except asyncio.CancelledError:
            if self._task is None or not self._has_cancelled or self._task.uncancel() > 0:
                raise
            self._has_cancelled = False
            raise self._wished() from None
        finally:
            if self._has_cancelled and self._task is not None:
                self._task.uncancel()  # the step ended at the same moment
                self._has_cancelled = False
            self._task = self._step = None

    def _wished(self, *, unsent: bool = False) -> Wished:
        wish = self._held.wish
        assert wish is not None, "there is a wish"
        self._batch.seen = wish
        return Wished(wish, unsent=unsent)

    def _obey(self) -> None:
        """End the step that is under way, now or in a moment."""
        if self._step in _STARTS and self._patience_s:
            self._loop.call_later(self._patience_s, self._cancel, self._task)
        else:
            self._cancel(self._task)

    def _cancel(self, task: asyncio.Task[Any] | None) -> None:
        if task is None or task is not self._task or self._has_cancelled:
            return
        if self._pending() is not None:
            self._has_cancelled = True
            task.cancel()

    def close(self) -> None:
        """Listen to no more wishes."""
        self._held.on_wish = None
