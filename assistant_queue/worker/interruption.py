"""Wishes for a batch while its steps are carried out: they end a long step, and reach the flow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.flow import BatchContext
from assistant_queue.core.flow.interrupting import refusal_of
from assistant_queue.core.wishes import Wish, Wished
from assistant_queue.errors import AssistantQueueError
from assistant_queue.store.ops import batch_changes
from assistant_queue.user_code.running_calls import post
from assistant_queue.worker.leased_batch import LeasedBatch
from assistant_queue.worker.user_code_steps import UserCodeSteps

_log = logging.getLogger(__name__)

_ENDED_EARLY = frozenset(
    {
        steps.Separate,
        steps.Instruct,
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

WATCHED: frozenset[type[steps.Step]] = _ENDED_EARLY | _STARTS | {steps.Answer, steps.Save}
"""Steps that are carried out here; a wish does not end any other, and is not thrown before it."""

START_PATIENCE_S = 0.5
"""Seconds for a request that starts work to return its id before it is cut off. Chosen: servers name
a run at once, and the grace of a request without an answer is much longer."""


class Interruption:
    """Throws wishes into the flow.

    1. before a step that sends or waits, if there is a wish that the flow does not know
    2. within such a step: it is cancelled; a request that starts work is given a moment first
    3. ends a round of tools early, with outputs for all its calls
    4. never within a write
    5. publishes that an interruption is refused, and lets the batch continue

    Each wish is thrown once. A wish to steer is not thrown: the flow looks for it between rounds.
    """

    def __init__(
        self, batch: LeasedBatch, user_code: UserCodeSteps, *, waits_for_ids: bool
    ) -> None:
        """`waits_for_ids`: work that was started is found again by its id."""
        self.context: BatchContext | None = None
        self._batch = batch
        self._user_code = user_code
        self._held = batch.held
        self._patience_s = START_PATIENCE_S if waits_for_ids else 0.0
        self._loop = loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._step: type[Any] | None = None
        self._has_cancelled = False
        self._refusing: asyncio.Task[None] | None = None
        self._held.on_wish = lambda: post(loop, self._obey)

    def begin(self, context: BatchContext) -> None:
        """Obey wishes for this batch; refuse an interruption that it was claimed with, if it is."""
        self.context = context
        if self._batch.claimed.wish is Wish.INTERRUPT:
            reason = refusal_of(context)
            if reason is not None:
                self._refuse(reason)

    def _pending(self) -> Wish | None:
        """Return a wish that has to be thrown."""
        wish = self._held.wish
        if wish is None or wish is self._batch.seen or wish is Wish.STEER:
            return None
        if wish is Wish.INTERRUPT and self.context is not None:
            reason = refusal_of(self.context)
            if reason is not None:
                self._refuse(reason)
                return None
        return wish

    async def carry_out(self, step: steps.Step, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Carry out one of the `WATCHED` steps.

        Raises:
            Wished: There is a wish that the flow does not know yet; the step was not begun, or was
                cancelled.
        """
        kind = type(step)
        leaves = isinstance(step, steps.Save) and step.leaves
        if kind is steps.Save and not leaves:
            return await handler(step)
        if kind is not steps.Answer and self._pending() is not None:
            raise self._wished(unsent=leaves or kind in _STARTS)
        if leaves:
            return await handler(step)
        self._task = asyncio.current_task()
        self._step = kind
        if kind is steps.Answer:
            self._obey()
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
        if self._step is None:
            return
        if self._step is steps.Answer:
            if self._pending() is not None:
                self._user_code.end_round_early()
        elif self._step in _STARTS and self._patience_s:
            self._loop.call_later(self._patience_s, self._cancel, self._task)
        else:
            self._cancel(self._task)

    def _cancel(self, task: asyncio.Task[Any] | None) -> None:
        if task is None or task is not self._task or self._has_cancelled:
            return
        if self._pending() is not None:
            self._has_cancelled = True
            task.cancel()

    def _refuse(self, reason: str) -> None:
        """Publish, beside the batch, that it is not interrupted."""
        self._batch.seen = self._held.wish
        if self._refusing is None or self._refusing.done():
            self._refusing = self._loop.create_task(self._publish_refusal(reason))

    async def _publish_refusal(self, reason: str) -> None:
        batch = self._batch
        try:
            await batch.write_once(
                lambda: batch_changes.refuse(batch.runtime.namespace, batch.lease, reason)
            )
        except AssistantQueueError as error:
            _log.debug(
                "that batch %s is not interrupted was not published: %s",
                batch.claimed.batch.id,
                error,
            )
            return
        batch.refused()

    async def close(self) -> None:
        """Listen to no more wishes."""
        self._held.on_wish = None
        if self._refusing is not None and not self._refusing.done():
            await asyncio.wait({self._refusing})
