"""What the OpenAI backends need of HTTP: an answer read as events, with our own time-outs, and plain JSON calls.

Answers are read raw (`with_streaming_response`) and parsed by `event_parser`: half the cost of the typed events, no enum that could be
closed, and the same behaviour with every version of the client library.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from assistant_queue.backends.event_parser import EventParser
from assistant_queue.backends.openai_errors import MAYBE_ACCEPTED, cut, is_foreign, translated
from assistant_queue.backends.wire_events import Event, UnreadableAnswer
from assistant_queue.backends.wire_json import loads
from assistant_queue.core.runs import RunEvent
from assistant_queue.errors import BackendError, OutcomeUnknown, RunVanished, StreamCut, UnknownThread
from assistant_queue.trouble import Kind

Json = dict[str, Any]
Call = Callable[[], AbstractAsyncContextManager[Any]]
"""Makes a request when it is entered: a method of the client's `with_streaming_response`, with its arguments bound."""

CANCEL_S = 10.0
"""How long a cancelled run may take to end before the caller goes on. Chosen."""

_DRAIN_S = 0.5
"""How long the end of a stream is waited for after its last event, so that the connection can be used again. Chosen."""

_FIRST_PAUSE_S, _LAST_PAUSE_S, _GROWTH = 0.05, 1.0, 1.5
"""Between two looks at a run that cannot be streamed: tight at first, for runs that end at once. Chosen."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: until the first byte of an answer, and between two pieces of it."""

    first_s: float
    idle_s: float


class _Quiet(Exception):
    """No event came within the reader's patience."""


class EventStream:
    """One request that starts or watches a run, as events.

    1. sends the request, within the limit for the first byte of the answer
    2. yields events; bytes are signs of life, a comment as good as an event, and must come within the idle limit
    3. repeats the request where its connection is lost before any answer, as often as it may (`repeats`)
    4. translates every failure: before an id is known as the request's, after that always as `StreamCut`
    5. closes the answer, however it ends

    The reader sets `run_id` as soon as it has seen one and `is_over` after the last event; the rest is then only drained. A reader that
    has seen what may be the end sets `patience_s`: if the next event takes longer, the events end.

    Attributes:
        has_ended: The server has ended the answer, by `[DONE]` or an orderly end of the body.
    """

    def __init__(self, call: Call, *, limits: Limits, thread: str, missing: type[BackendError] = UnknownThread, repeats: int = 0) -> None:
        """Send nothing yet; `repeats` is for requests that double nothing."""
        self._call = call
        self._limits = limits
        self._thread = thread
        self._missing = missing
        self._repeats = repeats
        self._parser = EventParser()
        self._heard_at = 0.0
        self.run_id: str | None = None
        self.is_over = False
        self.patience_s: float | None = None
        self.has_ended = False

    @property
    def is_done(self) -> bool:
        """Whether the server has said `[DONE]`."""
        return self._parser.is_done

    @property
    def is_whole(self) -> bool:
        """Whether the answer is one JSON object that was read to its end; the connection may be open still."""
        return self._parser.is_whole

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the events, in order. Use it with `aclosing`."""
        async with AsyncExitStack() as stack:
            chunks, chunk = await self._answer(stack)
            while True:
                found = self._read(chunk)
                is_news = bool(found)
                while found:
                    yield found.pop(0)  # nothing of an event is kept while the next is waited for: of a thousand runs that is megabytes
                if chunk is None:
                    return
                if self.is_over or self.has_ended:
                    await _drain(chunks)
                    return
                if is_news and self.patience_s is not None:
                    self._heard_at = anyio.current_time()
                try:
                    chunk = await self._next(chunks)
                except _Quiet:
                    return

    async def _answer(self, stack: AsyncExitStack) -> tuple[AsyncIterator[bytes], bytes | None]:
        """Send the request, and return the answer with its first bytes; None if it has no body."""
        for left in range(self._repeats, -1, -1):
            answer: Any = None
            try:
                with self._watched(self._limits.first_s):
                    answer = await stack.enter_async_context(self._call())
                    chunks: AsyncIterator[bytes] = answer.iter_bytes()
                    return chunks, await anext(chunks, None)
            except OutcomeUnknown as error:
                is_lost = error.trouble is not None and error.trouble.kind is Kind.CONNECTION_LOST
                if answer is not None or not left or not is_lost:
                    raise
        raise AssertionError  # the last one returns or raises

    def _read(self, chunk: bytes | None) -> list[Event]:
        """Return the events that these bytes, or the end of the body, complete."""
        try:
            found = self._parser.close() if chunk is None else self._parser.feed(chunk)
        except UnreadableAnswer as trouble:
            error = OutcomeUnknown(
                f"The provider's answer for thread {self._thread!r} {trouble}. Check the base URL, and what stands before the server."
            )
            raise (error if self.run_id is None else cut(error, thread=self._thread, run_id=self.run_id)) from trouble
        self.has_ended = chunk is None or self._parser.is_done
        return found

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        """Return the next bytes, None at the end of the body."""
        if self.patience_s is None:
            with self._watched(self._limits.idle_s):
                return await anext(chunks, None)
        with anyio.move_on_after(self._heard_at + self.patience_s - anyio.current_time()), self._watched(self._limits.idle_s):
            return await anext(chunks, None)
        raise _Quiet

    @contextmanager
    def _watched(self, limit_s: float) -> Iterator[None]:
        """Within the block, waiting is bounded and failures are ours. Never held across a `yield` of events."""
        try:
            with translated(self._thread, missing=self._missing):
                try:
                    with anyio.fail_after(limit_s):
                        yield
                except TimeoutError as error:
                    raise self._silent(limit_s) from error
        except BackendError as error:
            if self.run_id is None or isinstance(error, (StreamCut, RunVanished)):
                raise
            raise cut(error, thread=self._thread, run_id=self.run_id) from error.__cause__

    def _silent(self, limit_s: float) -> BackendError:
        return OutcomeUnknown(f"The provider sent nothing for thread {self._thread!r} within {limit_s:g} s. {MAYBE_ACCEPTED}")

    def ended_early(self) -> BackendError:
        """What it means that the events stopped before the run's end."""
        if self.run_id is None:
            return OutcomeUnknown(f"The provider's answer for thread {self._thread!r} ended before it named a run. {MAYBE_ACCEPTED}")
        return StreamCut(f"The stream of run {self.run_id!r} of thread {self._thread!r} ended before the run; follow it by its id.")


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read what is left, if it comes soon: only a connection that was read to its end is used again."""
    with anyio.move_on_after(_DRAIN_S):
        try:
            async for _ in chunks:
                pass
        except Exception as error:
            # The run's end is known; how the connection ends does not matter any more.
            if not is_foreign(error):
                raise


class Reader(Protocol):
    """Turns the events of one protocol into ours, without I/O."""

    run_id: str | None
    outcome: RunEvent | None

    def read(self, event: Event) -> list[RunEvent]:
        """What this event means; the last one is left in `outcome`."""


async def play(stream: EventStream, reader: Reader) -> AsyncGenerator[RunEvent, None]:
    """A run's events, the outcome last.

    Raises:
        BackendError: As `EventStream` says; also where the stream ends without an outcome.
    """
    stream.run_id = reader.run_id
    async with aclosing(stream.events()) as events:
        async for event in events:
            if not stream.is_over:
                found = reader.read(event)
                stream.run_id, stream.is_over = reader.run_id, reader.outcome is not None
                for one in found:
                    yield one
            del event  # as in `EventStream.events`
            if stream.is_whole and reader.outcome is None:
                break  # a run that has not ended, as JSON instead of a stream: nothing more will come
    if reader.outcome is None:
        raise stream.ended_early()
    yield reader.outcome


async def fetch(call: Call, *, thread: str, missing: type[BackendError] = UnknownThread) -> Json:
    """The JSON object that a plain call answers with; the client's own time-out holds.

    Raises:
        BackendError: The call failed, or its answer is not a JSON object (`OutcomeUnknown`).
    """
    with translated(thread, missing=missing):
        async with call() as answer:
            body = await answer.read()
    try:
        parsed = loads(body)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise OutcomeUnknown(f"The provider's answer for thread {thread!r} is not a JSON object; check the base URL.")
    return parsed


async def ended(state: Json, read: Callable[[], Awaitable[Json]], is_open: Callable[[Json], bool], *, within_s: float = math.inf) -> Json:
    """A run as it is when it is not open any more, or after `within_s` seconds: looked at again and again.

    Args:
        state: The run as it was seen last.
        read: Reads it again.
        is_open: Whether to go on.
        within_s: The caller's own deadline holds where none is given.
    """
    pause, waited = _FIRST_PAUSE_S, 0.0
    while is_open(state) and waited < within_s:
        await anyio.sleep(pause)
        waited += pause
        pause = min(pause * _GROWTH, _LAST_PAUSE_S)
        state = await read()
    return state
