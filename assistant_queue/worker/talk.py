"""What one batch says to the provider, and hears: the backend's calls, and the stream of its run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio

from assistant_queue.backends.base import Backend, RenewsConversations
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.core import steps
from assistant_queue.core.runs import ActionRequired, RunEnded, RunEvent, RunStarted, TextDelta
from assistant_queue.errors import AssistantQueueError, BackendError, OutcomeUnknown, RunExpired, StreamCut
from assistant_queue.user_errors import log_raised, said
from assistant_queue.worker.spoken import Spoken
from assistant_queue.worker.telling import Teller

_log = logging.getLogger(__name__)


class Talk:
    """The provider's side of a batch.

    1. keeps the run's stream open between the step that starts it and the step that reads it
    2. tells those who listen what is said, as far as somebody does
    3. takes out of it the reasoning that the model wrote into its text
    4. treats whatever a backend of the user's raises as an unknown outcome

    Whether the lease allows a call is asked before, by the driver.
    """

    def __init__(
        self,
        backend: Backend,
        thread_id: str,
        teller: Teller | None,
        now_ms: Callable[[], int],
        *,
        run_timeout_s: float,
        tags: ReasoningTags | None = None,
    ) -> None:
        """Says nothing yet; `now_ms` is the store's time, without `tags` reasoning stays where it is."""
        self._backend = backend
        self._thread_id = thread_id
        self._teller = teller
        self._now_ms = now_ms
        self._run_timeout_s = run_timeout_s
        self._events: AsyncIterator[RunEvent] | None = None
        self._cursor: tuple[str, int] | None = None  # how far the stream of which run has been read
        self._run_id = ""
        self._spoken = Spoken(tags)

    async def locate(self, step: steps.Locate) -> str | None:
        """Where the conversation ends now: the anchor."""
        anchor: str | None = await self.asked(self._backend.locate(step.conversation_id))
        return anchor

    async def renew_conversation(self, step: steps.RenewConversation) -> tuple[str, str | None] | None:
        """Have the conversation begun anew with its later half."""
        if not isinstance(self._backend, RenewsConversations):
            return None
        renewed: tuple[str, str | None] | None = await self.asked(self._backend.renew_conversation(step.request, step.calls))
        return renewed

    async def start(self, step: steps.Start) -> RunStarted:
        """Hand the batch to the model; the stream stays open."""
        return await self._open_stream(self._backend.start(step.request))

    async def submit(self, step: steps.Submit) -> RunStarted:
        """Hand the outputs of a round to the model; the stream stays open."""
        return await self._open_stream(self._backend.submit(step.request, step.run_id, step.calls, step.outputs), is_round=True)

    async def follow(self, step: steps.Follow) -> RunStarted:
        """Listen to a run that goes on, from where it was heard last."""
        cursor = None if self._teller is None else self._teller.cursor_of(step.run_id)
        if self._cursor is not None and self._cursor[0] == step.run_id:
            cursor = self._cursor[1]
        return await self._open_stream(self._backend.follow(step.request, step.run_id, cursor))

    async def _open_stream(self, stream: AsyncIterator[RunEvent], *, is_round: bool = False) -> RunStarted:
        await self.close()
        self._events = stream
        limit = self._run_timeout_s
        try:
            with anyio.fail_after(limit):  # signs of life alone must not hold the thread for ever
                event = await self.asked(anext(stream, None))
        except TimeoutError as error:
            raise OutcomeUnknown(f"the run over thread {self._thread_id!r} has not begun within run_timeout ({limit:g} s)") from error
        if isinstance(event, RunStarted):
            self._run_id = event.run_id
            self._spoken.begin(event.run_id, is_round=is_round)
            if self._teller is not None:
                self._teller.begin(event.run_id, is_round=is_round)
            return event
        raise OutcomeUnknown(f"the run over thread {self._thread_id!r} gave {type(event).__name__} before its id")

    async def watch(self, step: steps.Watch) -> RunEvent:
        """The run's end or its next calls, within its deadline."""
        limit = self._run_timeout_s
        expired = RunExpired(f"the run over thread {self._thread_id!r} has not ended within run_timeout ({limit:g} s)")
        left_s = (step.deadline_ms - self._now_ms()) / 1000
        if left_s <= 0:  # nobody was there to see it end
            raise expired
        try:
            return await asyncio.wait_for(self.asked(self._read()), left_s)
        except (asyncio.TimeoutError, TimeoutError):
            raise expired from None

    async def _read(self) -> RunEvent:
        if self._events is not None:
            async for event in self._events:
                if isinstance(event, TextDelta):
                    if event.cursor is not None:
                        self._cursor = (self._run_id, event.cursor)
                    if self._teller is not None and self._teller.hear(self._spoken.delta(event)):
                        await self._teller.tell()
                elif not isinstance(event, RunStarted):
                    event = self._spoken.stop(event)  # noqa: PLW2901 - the other one is not needed any more
                    if self._teller is not None:
                        await self._teller.settle(event)
                    return event
        raise StreamCut(f"the stream of the run over thread {self._thread_id!r} ended before the run")

    async def find(self, step: steps.Find) -> Any:
        """Ask what became of a request or a run."""
        finding = await self.asked(self._backend.find(step.request, step.run_id, step.calls))
        if isinstance(finding, ActionRequired | RunEnded):
            finding = self._spoken.stop(finding)
        is_over = isinstance(finding, ActionRequired | RunEnded) and bool(finding.run_id) and (finding.whole or not step.calls)
        if self._teller is not None and is_over:
            # Found by the outputs it answers, a round is known by the id of the round before: its text comes with the reply.
            self._teller.begin(finding.run_id)
            await self._teller.settle(finding)
        return finding

    async def cancel(self, step: steps.Cancel) -> None:
        """Have a run cancelled, and wait for that within bounds; raises nothing of the backend's."""
        try:
            await asyncio.wait_for(self.asked(self._backend.cancel(step.request, step.run_id)), step.patience_s)
        except (asyncio.TimeoutError, TimeoutError):
            _log.warning("thread %r: run %s is being cancelled, its end was not waited for", self._thread_id, step.run_id)
        except BackendError as error:
            _log.warning("thread %r: run %s could not be cancelled: %s", self._thread_id, step.run_id, error)

    async def asked(self, answer: Awaitable[Any]) -> Any:
        """The backend's answer; what a backend of the user's raises is something nobody knows the outcome of."""
        try:
            return await answer
        except (AssistantQueueError, StopAsyncIteration):
            raise
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            problem: BaseException = error
        except BaseException as error:  # noqa: BLE001 - a SystemExit of the user's backend ends the call, not the worker
            problem = error
        log_raised(_log, "thread %r: the backend raised", self._thread_id, error=problem)
        raise OutcomeUnknown(f"the backend raised {said(problem)}")

    async def close(self) -> None:
        """Leave the stream, if one is open."""
        events, self._events = self._events, None
        close = getattr(events, "aclose", None)
        if close is not None:
            try:
                await close()
            except asyncio.CancelledError:
                if _is_cancelled():
                    raise
                _log.error("thread %r: a stream did not close: it was cancelled from within", self._thread_id)
            except BaseException as error:  # noqa: BLE001 - what cannot be closed must not hide how the batch went
                log_raised(_log, "thread %r: a stream did not close", self._thread_id, error=error)


def _is_cancelled() -> bool:
    """Whether the current task was cancelled, or something within it merely raised CancelledError; before Python 3.11 nothing can tell."""
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)
    return cancelling is None or cancelling() > 0
