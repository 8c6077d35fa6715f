"""Any callable as a backend: a function, or an agent of any framework called by one."""

from __future__ import annotations

import inspect
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from assistant_queue.backends.function.deferral import (
    GuestCall,
    OpenCalls,
    SettledCall,
    StoredRound,
    calls_of,
)
from assistant_queue.backends.function.invocation import (
    MAX_HISTORY,
    Result,
    RunContext,
    Said,
    context_parameter,
    dump_history,
    finished,
    load_history,
    on_thread,
    pieces_of,
    text_of,
)
from assistant_queue.backends.no_conversations import NoConversations, failing
from assistant_queue.config.protocol import name_of_backend
from assistant_queue.core.runs import (
    WRITTEN,
    ActionRequired,
    CannotAsk,
    Capabilities,
    Finding,
    FoundBy,
    NotFound,
    RunAccepted,
    RunEnded,
    RunEvent,
    RunRequest,
    TextChunk,
)
from assistant_queue.errors import (
    BackendError,
    ConfigurationError,
    ConversationBusy,
    OutcomeUnknown,
    RunFailed,
    RunVanished,
    UnknownThread,
)
from assistant_queue.models import ErrorInfo, ToolCall
from assistant_queue.user_code.error_text import log_raised, said, words_of
from assistant_queue.user_code.functions import is_async, is_async_generator

__all__ = ["FunctionBackend", "GuestCall", "OpenCalls", "RunContext", "Said", "SettledCall"]

_log = logging.getLogger(__name__)


class FunctionBackend(NoConversations):
    """Answers a batch by calling a function.

    1. calls it with the batch: an async one on the worker's loop, a sync one on its own thread
    2. takes what it returns (text, several texts, None) or yields (pieces of one text) as the reply
    3. counts what it raises as a failed run, to be tried again
    4. takes `OpenCalls` as tool calls that are answered from outside, and calls the function again
       once all are settled
    5. after a death during a call, calls again if the function is idempotent; else the batch is
       parked

    With `history` the queue remembers what was said in a thread, written in the same step as the
    reply. Without it the function keeps what it wants to remember by itself, under
    `batch.thread_id`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        idempotent: bool = False,
        history: int = 0,
    ) -> None:
        """Wrap a function.

        Args:
            function: Sync, async or a generator. Takes a `Batch`, and a `RunContext` if a parameter
                is annotated so or called `context`.
            name: For logs and the queue's fingerprint; None for the function's own.
            idempotent: The function may be called again with the same `batch.id`, also while an
                earlier call still runs.
            history: How many texts of a thread, the model's and the people's, are remembered and
                given as `RunContext.history`; 0 for none. They are kept until `forget_thread`.

        Raises:
            ConfigurationError: It cannot be called with a batch, or `history` is no number from 0
                to 1,000.
        """
        if (
            isinstance(history, bool)
            or not isinstance(history, int)
            or not 0 <= history <= MAX_HISTORY
        ):
            raise ConfigurationError(
                "history must be a whole number of texts from 0 to "
                f"{MAX_HISTORY:,}, not {history!r}"
            )
        self._function = function
        self._history = history
        self.name = name_of_backend(function) if name is None else name
        self._context = context_parameter(function, self.name)
        self._idempotent = idempotent
        self._on_loop = is_async(function) or is_async_generator(function)
        self.capabilities = Capabilities(
            found_by=FoundBy.NOT_AT_ALL,
            # A coroutine is really stopped, a thread is not; of an idempotent function it does not
            # matter.
            cancels=self._on_loop or idempotent,
            conversations=False,
            writes=history > 0,
            resumes=True,
        )

    async def start(self, request: RunRequest) -> AsyncIterator[RunEvent]:
        """Call the function; a batch that is only remembered does not reach it.

        Raises:
            UnknownThread, OutcomeUnknown: As the function raised them.
        """
        if request.writes:
            accepted, ended = WRITTEN
            yield accepted
            yield replace(ended, anchor=self._remember(request, ()))
            return
        run_id = f"{request.batch.id}-{request.batch.attempts}"
        async with aclosing(self._run(request, run_id, StoredRound(), {})) as events:
            async for event in events:
                yield event

    async def submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> AsyncIterator[RunEvent]:
        """Call the function with its state, and with what came of the calls that it left open.

        Raises:
            RunVanished: It left none open: another backend did.
            UnknownThread, OutcomeUnknown: As the function raised them.
        """
        before = StoredRound.load(request.transcript)
        if not calls or set(before.calls) != {call.id for call in calls}:
            raise RunVanished(
                f"{self.name} did not ask for the calls of run {run_id} of thread"
                f" {request.batch.thread_id!r}"
            )
        new_id = f"{request.batch.id}-{request.batch.attempts}-{before.number}"
        async with aclosing(self._run(request, new_id, before, before.settled(outputs))) as events:
            async for event in events:
                yield event

    async def _run(
        self,
        request: RunRequest,
        run_id: str,
        before: StoredRound,
        settled: Mapping[str, SettledCall],
    ) -> AsyncGenerator[RunEvent, None]:
        # 1. the batch is "sending"
        # 2. this event is yielded
        # 3. the batch is stored as "running"
        # 4. the function is called
        # So a batch found "sending" has not reached the function, and one found "running" may have.
        yield RunAccepted(run_id=run_id)
        pieces: list[str] = []
        replies: tuple[str, ...] = ()
        opened: OpenCalls | None = None
        context = self._context_of(request, run_id, before, settled)
        try:
            async with aclosing(self._speak(request, context)) as said:
                async for word in said:
                    if isinstance(word, str):
                        pieces.append(word)
                        yield TextChunk(text=word)
                    elif isinstance(word, OpenCalls):
                        opened = word
                    else:
                        replies = word
            text = "".join(pieces)
            replies = (text,) if text else replies
            if opened is not None:
                if self._context is None:
                    raise RunFailed(
                        f"{self.name} leaves calls open, but takes no RunContext, in which it would"
                        " read what came of them: add the parameter context"
                    )
                stored = before.next(opened, replies, request.batch.attempts)
                asked = _asking(stored, opened, run_id, replies)
                yield replace(asked, usage=context.usage)
                return
        except (UnknownThread, OutcomeUnknown):
            raise
        except Exception as error:  # noqa: BLE001 - any error of the function is a failed run
            yield replace(self._failed(request, run_id, error), usage=context.usage)
            return
        yield RunEnded(
            run_id=run_id,
            status="completed",
            replies=replies,
            usage=context.usage,
            anchor=self._remember(request, (*before.said, *replies)),
        )

    def follow(
        self, request: RunRequest, run_id: str, cursor: int | None = None
    ) -> AsyncIterator[RunEvent]:
        """Raise `RunVanished`: a call ends with its process."""
        return failing(
            RunVanished(
                f"the call of {self.name} for thread {request.batch.thread_id!r} (run {run_id}) "
                "cannot be watched again"
            )
        )

    async def find(
        self, request: RunRequest, run_id: str | None = None, calls: Sequence[ToolCall] = ()
    ) -> Finding:
        """Return whether the function may be called (again) with this batch."""
        # Without a run's id it was not called; only after a time-out may a thread still run it. Nor
        # was it called with the outputs of calls: a run that was given them has them no more.
        if self._idempotent or calls or (run_id is None and self._on_loop):
            return NotFound(anchor=request.anchor)
        return CannotAsk(
            reason=f"{self.name} was called with batch {request.batch.id}, and its progress is not "
            "known: retry or discard the batch (declare a function that may be called again by "
            "FunctionBackend(function, idempotent=True))"
        )

    async def cancel(self, request: RunRequest, run_id: str) -> None:
        """Do nothing.

        A call on the loop ended with its stream; one on a thread continues, and its result is
        dropped.
        """

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def _context_of(
        self,
        request: RunRequest,
        run_id: str,
        before: StoredRound,
        settled: Mapping[str, SettledCall],
    ) -> RunContext:
        return RunContext(
            run_id=run_id,
            contents=tuple(item.content for item in request.items),
            history=load_history(request.anchor) if self._history else (),
            instructions=request.instructions,
            deadline_s=request.deadline_s,
            state=before.state,
            settled=settled,
        )

    def _call(self, request: RunRequest, context: RunContext) -> Callable[[], Any]:
        if self._context is None:
            return partial(self._function, request.batch)
        return partial(self._function, request.batch, **{self._context: context})

    async def _speak(
        self, request: RunRequest, context: RunContext
    ) -> AsyncGenerator[str | tuple[str, ...] | OpenCalls, None]:
        """Yield pieces of one reply, or all replies at once; then calls that are open, if any."""
        call = self._call(request, context)
        result: Any = None
        if self._on_loop:
            result = call()
        else:
            async with aclosing(on_thread(call, self.name)) as given:
                async for word in given:
                    if isinstance(word, Result):
                        result = word.value
                    else:
                        yield self._piece(word)
        if inspect.isawaitable(result):
            result = await finished(result, self.name)
        if isinstance(result, AsyncIterable):
            async with aclosing(pieces_of(result, self.name)) as pieces:
                async for word in pieces:
                    yield self._piece(word)
        else:
            yield self._replies(result)

    def _remember(self, request: RunRequest, replies: Sequence[str]) -> str | None:
        """Return the thread's state after this batch.

        It is stored where other backends store the id of a conversation's last item.
        """
        if not self._history:
            return None
        asked = (Said(item.role, text_of(item.content)) for item in request.items)
        answered = (Said("assistant", reply) for reply in replies)
        return dump_history([*load_history(request.anchor), *asked, *answered], self._history)

    def _piece(self, word: Any) -> str | OpenCalls:
        if isinstance(word, str | OpenCalls):
            return word
        raise RunFailed(f"{self.name} yielded {type(word).__name__}; pieces of a reply are strings")

    def _replies(self, result: Any) -> tuple[str, ...] | OpenCalls:
        if isinstance(result, OpenCalls):
            return result
        if isinstance(result, str):
            return (result,) if result else ()
        if result is None:
            return ()
        if isinstance(result, list | tuple) and all(isinstance(one, str) for one in result):
            return tuple(result)
        raise RunFailed(
            f"{self.name} returned {type(result).__name__}; a reply is a string, a list of "
            "strings, or None"
        )

    def _failed(self, request: RunRequest, run_id: str, error: Exception) -> RunEnded:
        """Convert the function's exception to the end of a run.

        Our own errors carry whether they count and when to retry.
        """
        if isinstance(error, BackendError):
            counts = error.counts and not isinstance(error, ConversationBusy)
            info = ErrorInfo(code=error.code, message=words_of(error))
            return RunEnded(
                run_id=run_id,
                status="failed",
                error=info,
                retry_after_s=error.retry_after_s,
                counts=counts,
                retryable=error.retryable,
                trouble=error.trouble,
            )
        log_raised(
            _log,
            "thread %r, batch %s: %s raised",
            request.batch.thread_id,
            request.batch.id,
            self.name,
            error=error,
        )
        info = ErrorInfo(code="run_failed", message=f"{self.name} raised {said(error)}")
        return RunEnded(run_id=run_id, status="failed", error=info)


def _asking(
    stored: StoredRound, opened: OpenCalls, run_id: str, replies: tuple[str, ...]
) -> ActionRequired:
    """Return the round in which a function leaves calls open."""
    calls = list(calls_of(opened, stored))
    return ActionRequired(
        run_id=run_id,
        calls=tuple(call for call, _ in calls),
        replies=replies,
        transcript=stored.dump(),
        open=tuple(asked for _, asked in calls if asked is not None),
    )
