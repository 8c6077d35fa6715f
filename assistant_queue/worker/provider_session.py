"""The provider's side of one batch: calls of the backend, and the stream of the run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from assistant_queue.backends.base import Backend, ChecksRuns, RenewsConversations
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.channels.live_replies import LiveReply
from assistant_queue.channels.media import BatchFiles
from assistant_queue.core import steps
from assistant_queue.core.runs import (
    ActionRequired,
    RunAccepted,
    RunEnded,
    RunEvent,
    RunRequest,
    TextChunk,
)
from assistant_queue.errors import (
    AssistantQueueError,
    BackendError,
    OutcomeUnknown,
    RunExpired,
    StreamCut,
)
from assistant_queue.observing import UNOBSERVED, Observers
from assistant_queue.user_code.error_text import log_raised, said
from assistant_queue.user_code.running_calls import CallOutcome, TaskCall
from assistant_queue.user_code.stream_tasks import read_in_task
from assistant_queue.worker.delta_publisher import DeltaPublisher
from assistant_queue.worker.observed_round import ObservedRound
from assistant_queue.worker.visible_text import VisibleText

_log = logging.getLogger(__name__)


class ProviderSession:
    """Calls the backend for one batch.

    1. keeps the run's stream open between the step that starts it and the step that reads it
    2. publishes the text of the run while the thread has subscribers
    3. removes the reasoning that the model wrote into its text
    4. treats an unexpected exception of the backend as an unknown outcome
    5. abandons a call of the user's own `Backend` that cannot be cancelled

    The driver makes sure before each call that the lease allows it.
    """

    def __init__(
        self,
        backend: Backend,
        thread_id: str,
        publisher: DeltaPublisher | None,
        now_ms: Callable[[], int],
        *,
        run_timeout_s: float,
        tags: ReasoningTags | None = None,
        user_backend: str | None = None,
        files: BatchFiles | None = None,
        live: LiveReply | None = None,
        observers: Observers = UNOBSERVED,
    ) -> None:
        """Call nothing yet.

        Args:
            backend: The backend.
            thread_id: For the backend and for logs.
            publisher: Publishes the text; None to publish nothing.
            now_ms: Returns the store's time.
            run_timeout_s: Seconds that a run may take.
            tags: The reasoning to remove; None to keep it.
            user_backend: The name of a `Backend` of the user's; None for one of this package.
            files: Reads files that messages name; None if the queue has no channels.
            live: Shows the text on a chat platform; None if the thread is on none.
            observers: Are notified of each round.
        """
        self._backend = backend
        self._thread_id = thread_id
        self._publisher = publisher
        self._now_ms = now_ms
        self._run_timeout_s = run_timeout_s
        self._user_backend = user_backend
        self._files = files
        self._live = live
        self._events: AsyncIterator[RunEvent] | None = None
        self._cursor: tuple[str, int] | None = None  # the run, and the place in its stream
        self._run_id = ""
        self._visible = VisibleText(tags)
        self._texts: dict[object, list[str]] = {}  # of the open stream, as the model writes them
        self._first_text_ms = 0  # since the last stop of a run
        self._round = ObservedRound(observers, backend, user_backend, now_ms)

    async def locate(self, step: steps.Locate) -> str | None:
        """Return the id of the conversation's last item: the anchor."""
        anchor: str | None = await self.asked(self._backend.locate(step.conversation_id))
        return anchor

    async def renew_conversation(
        self, step: steps.RenewConversation
    ) -> tuple[str, str | None] | None:
        """Create a conversation that begins with the later half of this one."""
        if not isinstance(self._backend, RenewsConversations):
            return None
        renewed: tuple[str, str | None] | None = await self.asked(
            self._backend.renew_conversation(await self._with_files(step.request), step.calls)
        )
        return renewed

    async def start(self, step: steps.Start) -> RunAccepted:
        """Send the batch to the model; the stream stays open."""
        self._first_text_ms = 0
        request = await self._with_files(step.request)
        self._round.begin(request)
        return await self._open_stream(self._backend.start(request))

    async def submit(self, step: steps.Submit) -> RunAccepted:
        """Send the outputs of a round to the model; the stream stays open."""
        request = await self._with_files(step.request)
        self._round.begin(request, outputs=step.outputs)
        return await self._open_stream(
            self._backend.submit(request, step.run_id, step.calls, step.outputs), is_round=True
        )

    async def follow(self, step: steps.Follow) -> RunAccepted:
        """Read the stream of a run that is in progress, from the last known place."""
        cursor = None if self._publisher is None else self._publisher.cursor_of(step.run_id)
        if self._cursor is not None and self._cursor[0] == step.run_id:
            cursor = self._cursor[1]
        request = await self._with_files(step.request)
        self._round.begin(request, is_followed=True)
        return await self._open_stream(
            self._backend.follow(request, step.run_id, cursor), is_resumed=bool(cursor)
        )

    async def _with_files(self, request: RunRequest) -> RunRequest:
        return request if self._files is None else await self._files.request(request)

    async def _open_stream(
        self, stream: AsyncIterator[RunEvent], *, is_round: bool = False, is_resumed: bool = False
    ) -> RunAccepted:
        await self._close_stream()
        events = stream if self._user_backend is None else _isolated(stream, self._user_backend)
        self._events = events
        limit = self._run_timeout_s
        try:
            # Keep-alives alone must not hold the thread for ever.
            async with asyncio.timeout(limit):
                event = await self._round.reading(self._contained(anext(events, None)))
        except TimeoutError as error:
            self._round.failed(error)
            raise OutcomeUnknown(
                f"the run over thread {self._thread_id!r} has not begun within run_timeout "
                f"({limit:g} s)"
            ) from error
        if isinstance(event, RunAccepted):
            self._run_id = event.run_id
            self._visible.begin(event.run_id, is_round=is_round)
            if self._publisher is not None:
                self._publisher.begin(event.run_id, is_round=is_round)
            if not is_resumed:
                self._texts.clear()
                if self._live is not None:
                    self._live.begin(is_round=is_round)
            return event
        raise OutcomeUnknown(
            f"the run over thread {self._thread_id!r} gave {type(event).__name__} before its id"
        )

    async def watch(self, step: steps.Watch) -> RunEvent:
        """Return the run's end or its next calls.

        Raises:
            RunExpired: Its deadline has passed.
        """
        limit = self._run_timeout_s

        def expired() -> RunExpired:
            words = f"has not ended within run_timeout ({limit:g} s)"
            return RunExpired(f"the run over thread {self._thread_id!r} {words}")

        left_s = (step.deadline_ms - self._now_ms()) / 1000
        if left_s <= 0:  # no worker was there when it passed
            raise expired()
        try:
            async with asyncio.timeout(left_s):
                event: RunEvent = await self._round.reading(self._contained(self._read()))
                return event
        except TimeoutError:
            error = expired()
            self._round.failed(error)
            raise error from None

    async def _read(self) -> RunEvent:
        if self._events is not None:
            async for event in self._events:
                if isinstance(event, TextChunk):
                    key = event.part if event.item is None else event.item
                    self._texts.setdefault(key, []).append(event.text)
                    if event.cursor is not None:
                        self._cursor = (self._run_id, event.cursor)
                    if (
                        self._publisher is not None
                        or self._live is not None
                        or not self._first_text_ms
                    ):
                        await self._take_text(self._visible.delta(event))
                elif not isinstance(event, RunAccepted):
                    stop = self._timed(self._visible.stop(event))
                    if self._publisher is not None:
                        await self._publisher.finish(stop)
                    return stop
        raise StreamCut(
            f"the stream of the run over thread {self._thread_id!r} ended before the run"
        )

    async def _take_text(self, delta: TextChunk) -> None:
        if delta.text and not self._first_text_ms:
            self._first_text_ms = self._now_ms()
        if self._live is not None and delta.text:
            self._live.add(delta.text, delta.part if delta.item is None else delta.item)
        if self._publisher is not None and self._publisher.add(delta):
            await self._publisher.publish()

    def _timed(self, stop: ActionRequired | RunEnded) -> ActionRequired | RunEnded:
        """Return the stop with the time of its first text."""
        first_text_ms = self._first_text_ms
        self._first_text_ms = 0
        return replace(stop, first_text_ms=first_text_ms) if first_text_ms else stop

    async def find(self, step: steps.Find) -> Any:
        """Find out what became of a request or a run."""
        request = await self._with_files(step.request)
        finding = await self.asked(self._backend.find(request, step.run_id, step.calls))
        return await self._found(finding, has_calls=bool(step.calls))

    async def check_run(self, step: steps.CheckRun) -> Any:
        """Look at a run in the background once."""
        if not isinstance(self._backend, ChecksRuns):
            raise OutcomeUnknown(f"{self._backend.name} cannot look at run {step.run_id!r}")
        seen = await self.asked(self._backend.check_run(step.request, step.run_id))
        if isinstance(seen, ActionRequired | RunEnded):
            self._round.found(step.request, seen)
        return await self._found(seen)

    async def leave_run(self, run_id: str) -> None:
        """Close the open stream, if there is one: its run continues without a reader."""
        self._round.leave(run_id)
        await self._close_stream()

    async def _found(self, finding: Any, *, has_calls: bool = False) -> Any:
        """Return a finding as it is shown; publish the text of a run that is over."""
        if isinstance(finding, ActionRequired | RunEnded):
            finding = self._visible.stop(finding)
        is_over = (
            isinstance(finding, ActionRequired | RunEnded)
            and bool(finding.run_id)
            and (finding.whole or not has_calls)
        )
        if self._publisher is not None and is_over:
            # A round that was found by the outputs it answers is known by the id of the round
            # before: its text comes with the reply.
            self._publisher.begin(finding.run_id)
            await self._publisher.finish(finding)
        return finding

    async def close_stream(self, _: steps.CloseStream) -> tuple[str, ...]:
        """Close the open stream; return the texts that it gave, and show them no more."""
        await self._close_stream()
        read = tuple("".join(pieces) for pieces in self._texts.values())
        self._texts.clear()
        if self._live is not None:
            self._live.take_back()
        if self._publisher is not None:
            self._publisher.drop()
        stop = RunEnded(run_id=self._run_id, status="cancelled", replies=read)
        return self._visible.stop(stop).replies

    async def cancel(self, step: steps.Cancel) -> None:
        """Cancel a run and wait for its end, within bounds; log a failure of the backend."""
        try:
            async with asyncio.timeout(step.patience_s):
                await self.asked(self._backend.cancel(step.request, step.run_id))
        except TimeoutError:
            _log.warning(
                "thread %r: run %s is being cancelled, it has not ended yet",
                self._thread_id,
                step.run_id,
            )
        except BackendError as error:
            _log.warning(
                "thread %r: run %s could not be cancelled: %s", self._thread_id, step.run_id, error
            )

    async def asked(self, answer: Awaitable[Any]) -> Any:
        """Return the backend's answer.

        Raises:
            OutcomeUnknown: The backend raised an exception that is not this package's, or the
                user's own backend did not answer within `run_timeout`.
        """
        if self._user_backend is None:
            return await self._round.asking(self._contained(answer))
        return await self._contained(self._bounded(answer, self._user_backend))

    async def _bounded(self, answer: Awaitable[Any], name: str) -> Any:
        call = TaskCall(answer, name)
        try:
            outcome = await call.ended(self._run_timeout_s)
        finally:
            await call.stop()
        if outcome is None:
            raise OutcomeUnknown(
                f"{name} has not answered within run_timeout ({self._run_timeout_s:g} s)"
            )
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    async def _contained(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except (AssistantQueueError, StopAsyncIteration):
            raise
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            problem: BaseException = error
        except BaseException as error:  # noqa: BLE001 - a SystemExit ends the call, not the worker
            problem = error
        log_raised(_log, "thread %r: the backend raised", self._thread_id, error=problem)
        raise OutcomeUnknown(f"the backend raised {said(problem)}")

    async def close(self) -> None:
        """Close the stream, if one is open."""
        await self._close_stream()
        self._round.close()

    async def _close_stream(self) -> None:
        events, self._events = self._events, None
        close = getattr(events, "aclose", None)
        if close is not None:
            try:
                await close()
            except asyncio.CancelledError:
                if _is_cancelled():
                    raise
                _log.error(
                    "thread %r: a stream did not close: it was cancelled from within",
                    self._thread_id,
                )
            except BaseException as error:  # noqa: BLE001 - the batch's outcome must not be hidden
                log_raised(_log, "thread %r: a stream did not close", self._thread_id, error=error)


async def _isolated(stream: AsyncIterator[RunEvent], name: str) -> AsyncGenerator[RunEvent, None]:
    """Yield the events of a user's stream, which is read by a separate task."""
    async with aclosing(read_in_task(stream, name)) as items:
        async for item in items:
            if not isinstance(item, CallOutcome):
                yield item
            elif item.error is not None:
                raise item.error


def _is_cancelled() -> bool:
    """Return whether the current task was cancelled; else user code raised CancelledError."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
