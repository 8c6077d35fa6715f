"""One batch, from the claim to its end, as a generator of steps without I/O.

The driver (`worker/driver.py`) carries out each step and sends its answer, or throws its error, into the generator. So the order of
what is written and what is sent - the whole promise - can be read here and tested without Redis, HTTP or time.

    claim ─► prepare ─► save "sending" ─► start ─► save "running" ─► watch ─┬─► finish
                ▲                                      ▲                    ├─► answer ─► save "sending" + outputs ─► submit ─┐
                │ not found                            │ found              │                                               │
    died while sending, or the answer was lost ─► grace ─► find             └─────────────── watch ◄────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.batching import fit, instructions_of
from assistant_queue.core.flow.running import Running
from assistant_queue.core.flow.state import ENDED_WELL, MAX_DEATHS, MAX_DEATHS_ELSEWHERE, Claimed, Flow, Park, Rules
from assistant_queue.core.runs import ActionRequired, FoundBy, RunEnded, RunRequest
from assistant_queue.core.thread_ids import providers_id
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import AssistantQueueError
from assistant_queue.models import ErrorInfo

__all__ = ["MAX_DEATHS", "MAX_DEATHS_ELSEWHERE", "BatchFlow", "Claimed", "Flow", "Rules"]


class BatchFlow(Running):
    """Takes one claimed batch to its end.

    1. prepares the request: what fits, the conversation, its end, the instructions (here)
    2. continues where an earlier holder stopped, by phase; sends, watches, answers tool rounds (`running.py`)
    3. decides what a failure means: wait, ask, send again, shorten, or give up (`failing.py`, `outgrowing.py`)
    4. stores the result and delivers it, or puts the batch on the failed list (`ending.py`)
    """

    def run(self) -> Flow:
        """The batch, step by step."""
        if self._phase is Phase.DELIVERING and self._progress.result is not None:
            return (yield from self._deliver(self._progress.result, None))
        if self._phase is Phase.DELIVERING:
            return (yield from self._undeliverable())
        if self._progress.burying is not None and self._progress.error is not None:
            return (yield from self._bury(self._progress.burying, self._progress.error, deaths=self._deaths))
        if self._claimed.unreadable is not None:
            error = ErrorInfo(code="corrupt", message=f"its record in Redis was changed by somebody else: {self._claimed.unreadable}")
            return (yield from self._bury("corrupt", error, deaths=self._deaths))
        if self._is_deadly:
            error = ErrorInfo(
                code="worker_deaths",
                message=f"{self._all_deaths} workers died in phase {self._phase.value!r} of this batch; look for what it does to them",
            )
            return (yield from self._bury("worker_deaths", error))
        try:
            yield from self._prepare()
            event = yield from self._reach_event()
            while isinstance(event, ActionRequired):
                event = yield from self._answer(event)
            if event.status not in ENDED_WELL:
                return (yield from self._gave_up(event, _error_of(event)))
            return (yield from self._ended(event))
        except AssistantQueueError as error:
            return (yield from self._failed(error))

    def _prepare(self) -> Generator[steps.Step, Any, None]:
        progress, capabilities = self._progress, self._capabilities
        fitting = fit(self._batch.messages, max_items=capabilities.max_items, max_item_chars=capabilities.max_item_chars)
        if fitting.taken < len(self._batch.messages):
            # Only before the first request can it not fit: what is frozen after that was made to.
            yield steps.Trim(keep=fitting.taken)
            self._batch = replace(self._batch, messages=self._batch.messages[: fitting.taken])
            # A resuming worker sees only these: what is sent must be what it would send, or it is not recognised.
            fitting = fit(self._batch.messages, max_items=capabilities.max_items, max_item_chars=capabilities.max_item_chars)
        conversation_id = providers_id(self._batch.thread_id, self._rules.thread_ids) or self._claimed.conversation_id
        if progress.located and conversation_id is None and capabilities.conversations:
            raise Park(
                "the conversation that the batch was to be sent to, or was, is not known any more: somebody else removed it from Redis"
            )
        if not progress.located and not capabilities.stateless:  # where the history is ours, what the claim read is the end
            progress.anchor = self._claimed.anchor
            if conversation_id is None and capabilities.conversations:
                conversation_id, progress.anchor = yield steps.OpenConversation()
            elif progress.anchor is None and capabilities.found_by is FoundBy.ANCHOR:
                progress.anchor = yield steps.Locate(conversation_id=conversation_id or "")
            progress.located = True
        self._request = RunRequest(
            batch=replace(self._batch, attempts=progress.attempts + 1),
            conversation_id=conversation_id or "",
            anchor=self._claimed.anchor if capabilities.stateless else progress.anchor,
            items=() if progress.held else fitting.items,
            instructions=(yield from self._instructions()),
            open_calls=self._claimed.open_calls,
            deadline_s=self._rules.run_timeout_s,
            again=progress.attempts + progress.refusals + progress.failures > 0,
            shortened=progress.shortened,
            renewed=progress.origin is not None,
        )

    def _instructions(self) -> Generator[steps.Step, Any, str | None]:
        own = instructions_of(self._batch.messages)
        if own is not None:
            return own
        default = self._rules.instructions
        if isinstance(default, bool):
            if not default:
                return None
            if self._phase is Phase.FROZEN:  # the next step is written in any case, and takes the blame back
                yield from self._blame()
            asked: str | None = yield steps.Instruct(batch=self._batch)
            self._acquit()
            return asked
        return default


def _error_of(event: RunEnded) -> ErrorInfo:
    return event.error or ErrorInfo(code="run_failed", message=f"the run ended as {event.status!r}")
