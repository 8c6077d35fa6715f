"""Handlers of the steps that call the user's functions."""

from __future__ import annotations

import asyncio
import logging

from assistant_queue.core import steps
from assistant_queue.core.batching import of_one_author
from assistant_queue.errors import RunExpired
from assistant_queue.user_code.functions import name_of
from assistant_queue.worker import callbacks, tool_calls
from assistant_queue.worker.leased_batch import LeasedBatch

_log = logging.getLogger(__name__)


class UserCodeSteps:
    """Calls tools and callbacks, each with the lease held for long enough."""

    def __init__(self, batch: LeasedBatch) -> None:
        """Call nothing yet."""
        self._batch = batch
        self._runtime = batch.runtime
        self._config = batch.runtime.config
        self._is_exclusive = False
        self._round: tool_calls.ToolRound | None = None

    def end_round_early(self) -> None:
        """End the calls of the round that may be interrupted."""
        if self._round is not None:
            self._round.end_early()

    async def enter_exclusive(self, _: steps.EnterExclusive) -> None:
        """Wait until no other batch that may crash the process runs user code in it.

        If two of them ran user code at the same time, each would be blamed for the other's crash.
        """
        await self._runtime.exclusive.acquire()
        self._is_exclusive = True

    def leave_exclusive(self) -> None:
        """Let the next batch that may crash the process run its user code."""
        if self._is_exclusive:
            self._is_exclusive = False
            self._runtime.exclusive.release()

    async def answer(self, step: steps.Answer) -> steps.ToolsAnswered:
        """Call the tools of a round; return their outputs.

        Raises:
            RunExpired: They took longer than the run may take.
        """
        await self._batch.ensure_lease()
        left_s = max(0.0, (self._batch.progress.deadline_ms - self._batch.now_ms()) / 1000)
        handler = self._config.handle_requires_action
        self._round = tool_calls.ToolRound(
            self._runtime.code,
            step.batch,
            step.run_id,
            self._config.observers,
            self._batch.now_ms,
        )
        try:
            async with asyncio.timeout(left_s):
                return await self._round.answer(
                    self._config.toolbox, handler, step.calls, step.approved
                )
        except TimeoutError:
            name = name_of(handler) if handler else "a tool"
            _log.warning(
                "thread %r, batch %s: %s has not answered in time",
                step.batch.thread_id,
                step.batch.id,
                name,
            )
            raise RunExpired(
                f"{name} has not answered thread {step.batch.thread_id!r} within run_timeout "
                f"({self._config.run_timeout:g} s)"
            ) from None
        finally:
            self._round = None

    async def separate(self, step: steps.Separate) -> int:
        """Call `separate_authors` for the authors of a batch."""
        function = self._config.separate_authors
        if not callable(function):
            return of_one_author(step.batch.messages)
        return await callbacks.separate(
            function, self._runtime.code, step.batch, self._config.callback_limit
        )

    async def instruct(self, step: steps.Instruct) -> str | None:
        """Call `default_instructions`."""
        function = self._config.default_instructions
        if not callable(function):
            return None
        return await callbacks.instruct(
            function, self._runtime.code, step.batch, self._config.callback_limit
        )

    async def fall_back(self, step: steps.FallBack) -> str | None:
        """Call `fallback_reply`."""
        await self._batch.ensure_lease()
        function = self._config.fallback_reply
        if not callable(function):
            return None
        return await callbacks.fall_back(
            function, self._runtime.code, step.batch, step.error, self._config.callback_limit
        )
