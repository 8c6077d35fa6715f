"""Read answers as events, with our own time-outs, and make plain JSON calls.

Answers are read raw and parsed by `event_parser`: half the cost of the client library's typed
events, no enum that could be closed, and the same behaviour over every sender.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import anyio

from assistant_queue.backends.openai.error_mapping import (
    MAYBE_ACCEPTED,
    cut,
    is_foreign,
    translated,
)
from assistant_queue.backends.openai.event_parser import EventParser
from assistant_queue.backends.openai.sending import BegunAnswer
from assistant_queue.backends.openai.wire_events import UnreadableAnswer, WireEvent
from assistant_queue.backends.openai.wire_json import loads
from assistant_queue.core.runs import RunEvent, TextChunk
from assistant_queue.errors import (
    BackendError,
    OutcomeUnknown,
    RunVanished,
    StreamCut,
    UnknownThread,
)
from assistant_queue.trouble import Kind

T = TypeVar("T")
Json = dict[str, Any]
Call = Callable[[], AbstractAsyncContextManager[BegunAnswer]]
"""Makes a request when it is entered: `ProviderChannel` builds it."""

CANCEL_FIRST_S = 0.01
"""Seconds until a run that was cancelled is read again. Chosen: a new message waits for its end."""

CANCEL_S = 10.0
"""Most time for a cancelled run to end before the caller continues. Chosen: providers stop within a
few seconds, and a caller that cancels should not wait much longer."""

_DRAIN_S = 0.5
"""Most time to wait for the end of a stream after its last event, so that the connection can be
reused. Chosen: a new connection costs about as much, so a longer wait gains nothing."""

_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 1.0
_GROWTH = 1.5
"""Pauses between two reads of a run that cannot be streamed. Chosen: short at first, for runs that
end at once; at most one request a second for the others."""


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
    2. yields events; any bytes, comments included, must come within the idle limit
    3. repeats the request if its connection is lost before any answer, at most `repeats` times
    4. translates every failure: as the request's before an id is known, as `StreamCut` after that
    5. closes the answer, however it ends

    The reader sets `run_id` as soon as it has read one and `is_over` after the last event; the rest
    is then only drained. A reader that has read a possible end sets `patience_s`: if the next event
    takes longer, the events end.

    Attributes:
        has_ended: The server has ended the answer, by `[DONE]` or an orderly end of the body.
    """

    def __init__(
        self,
        call: Call,
        *,
        limits: Limits,
        thread: str,
        missing: type[BackendError] = UnknownThread,
        repeats: int = 0,
    ) -> None:
        """Set up, without a request; `repeats` is for requests that double nothing."""
        self._call = call
        self._limits = limits
        self._thread = thread
        self._missing = missing
        self._repeats = repeats
        self._parser = EventParser()
        self._heard_at = 0.0
        self._has_begun = False
        self.run_id: str | None = None
        self.is_over = False
        self.patience_s: float | None = None
        self.has_ended = False

    @property
    def is_done(self) -> bool:
        """Return whether the server has sent `[DONE]`."""
        return self._parser.is_done

    @property
    def is_whole(self) -> bool:
        """Return whether the answer is one JSON object that was read to its end.

        The connection may still be open.
        """
        return self._parser.is_whole

    async def bursts(self) -> AsyncGenerator[list[WireEvent], None]:
        """Yield the events, in order, those that came together in one list. Use it with `aclosing`.

        The reader empties each list: no event is kept while the next is awaited. For a thousand
        runs that would be megabytes.
        """
        async with AsyncExitStack() as stack:
            answer, chunks, chunk = await self._answer(stack)
            while True:
                found = self._read(chunk)
                is_news = bool(found)
                if found:
                    yield found
                if chunk is None:
                    return
                if self.is_over or self.has_ended:
                    if not answer.is_at_end:
                        await _drain(chunks)
                    return
                if is_news and self.patience_s is not None:
                    self._heard_at = anyio.current_time()
                try:
                    chunk = await self._next(chunks)
                except _Quiet:
                    return

    async def _answer(
        self, stack: AsyncExitStack
    ) -> tuple[BegunAnswer, AsyncIterator[bytes], bytes | None]:
        """Send the request, and return the answer with its first bytes; None if it has no body."""
        for left in range(self._repeats, -1, -1):
            try:
                return await self._within(self._limits.first_s, self._first_bytes(stack))
            except OutcomeUnknown as error:
                is_lost = error.trouble is not None and error.trouble.kind is Kind.CONNECTION_LOST
                if self._has_begun or not left or not is_lost:
                    raise
        raise AssertionError  # the last one returns or raises

    async def _first_bytes(
        self, stack: AsyncExitStack
    ) -> tuple[BegunAnswer, AsyncIterator[bytes], bytes | None]:
        answer = await stack.enter_async_context(self._call())
        self._has_begun = True
        chunks = answer.iter_bytes()
        return answer, chunks, await anext(chunks, None)

    def _read(self, chunk: bytes | None) -> list[WireEvent]:
        """Return the events that these bytes, or the end of the body, complete."""
        try:
            found = self._parser.close() if chunk is None else self._parser.feed(chunk)
        except UnreadableAnswer as trouble:
            error = OutcomeUnknown(
                f"The provider's answer for thread {self._thread!r} {trouble}. Check the base URL "
                "and any proxy in front of the server."
            )
            raise (
                error
                if self.run_id is None
                else cut(error, thread=self._thread, run_id=self.run_id)
            ) from trouble
        self.has_ended = chunk is None or self._parser.is_done
        return found

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        """Return the next bytes, None at the end of the body."""
        if self.patience_s is None:
            return await self._within(self._limits.idle_s, anext(chunks, None))
        with anyio.move_on_after(self._heard_at + self.patience_s - anyio.current_time()):
            return await self._within(self._limits.idle_s, anext(chunks, None))
        raise _Quiet

    async def _within(self, limit_s: float, answer: Awaitable[T]) -> T:
        """Return what the server sends; bound the waiting, and translate failures."""
        try:
            with translated(self._thread, missing=self._missing):
                try:
                    async with asyncio.timeout(limit_s):
                        return await answer
                except TimeoutError as error:
                    raise self._silent(limit_s) from error
        except BackendError as error:
            if self.run_id is None or isinstance(error, (StreamCut, RunVanished)):
                raise
            raise cut(error, thread=self._thread, run_id=self.run_id) from error.__cause__

    def _silent(self, limit_s: float) -> BackendError:
        return OutcomeUnknown(
            f"The provider sent nothing for thread {self._thread!r} within {limit_s:g} s. "
            f"{MAYBE_ACCEPTED}"
        )

    def ended_early(self) -> BackendError:
        """Return the exception for events that stopped before the run's end."""
        if self.run_id is None:
            return OutcomeUnknown(
                f"The provider's answer for thread {self._thread!r} ended before it named a run. "
                f"{MAYBE_ACCEPTED}"
            )
        return StreamCut(
            f"The stream of run {self.run_id!r} of thread {self._thread!r} ended before the run; "
            "follow it by its id."
        )


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read the rest if it comes soon: a connection is reused only after it was read to its end."""
    with anyio.move_on_after(_DRAIN_S):
        try:
            async for _ in chunks:
                pass
        except Exception as error:
            # The run's end is known; the end of the connection does not matter.
            if not is_foreign(error):
                raise


class Reader(Protocol):
    """Convert the events of one protocol into ours, without I/O."""

    run_id: str | None
    outcome: RunEvent | None

    def read(self, event: WireEvent) -> list[RunEvent]:
        """Convert one event; the last one is left in `outcome`."""


async def play(stream: EventStream, reader: Reader) -> AsyncGenerator[RunEvent, None]:
    """Yield a run's events, the outcome last; pieces of a text that came together as one.

    Raises:
        BackendError: As `EventStream` says, or the stream ended without an outcome.
    """
    stream.run_id = reader.run_id
    async with aclosing(stream.bursts()) as bursts:
        async for burst in bursts:
            found: list[RunEvent] = []
            trouble: BackendError | None = None
            try:
                for event in burst:
                    if reader.outcome is None:
                        found += reader.read(event)
            except BackendError as error:
                trouble = error
            burst.clear()
            stream.run_id = reader.run_id
            stream.is_over = reader.outcome is not None
            for one in joined(found):
                yield one
            if trouble is not None:
                raise trouble
            if stream.is_whole and reader.outcome is None:
                # A run that has not ended, as JSON instead of a stream: nothing more will come.
                break
    if reader.outcome is None:
        raise stream.ended_early()
    yield reader.outcome


def joined(events: list[RunEvent]) -> list[RunEvent]:
    """Return the events, pieces of one text that came together as one piece."""
    found: list[RunEvent] = []
    for event in events:
        last = found[-1] if found else None
        if (
            isinstance(event, TextChunk)
            and isinstance(last, TextChunk)
            and event.item == last.item
            and event.part == last.part
        ):
            text = last.text + event.text
            found[-1] = TextChunk(text=text, cursor=event.cursor, part=event.part, item=event.item)
        else:
            found.append(event)
    return found


async def fetch(call: Call, *, thread: str, missing: type[BackendError] = UnknownThread) -> Json:
    """Return the JSON object that answers a plain call; the client's own time-out holds.

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
        raise OutcomeUnknown(
            f"The provider's answer for thread {thread!r} is not a JSON object; check the base URL."
        )
    return parsed


async def ended(
    state: Json,
    read: Callable[[], Awaitable[Json]],
    is_open: Callable[[Json], bool],
    *,
    within_s: float = math.inf,
    first_s: float = _FIRST_PAUSE_S,
) -> Json:
    """Poll a run until it is not open any more, or for `within_s` seconds, and return it.

    Args:
        state: The run as it was read last.
        read: Reads it again.
        is_open: Whether to continue.
        within_s: By default only the caller's own deadline holds.
        first_s: Seconds until it is read for the first time.
    """
    pause = first_s
    waited = 0.0
    while is_open(state) and waited < within_s:
        await anyio.sleep(pause)
        waited += pause
        pause = min(pause * _GROWTH, _LAST_PAUSE_S)
        state = await read()
    return state
