"""What both OpenAI backends need of HTTP: an answer read as events, with our own time-outs, and plain JSON calls.

Answers are read raw (`with_streaming_response`) and parsed here: half the cost of the typed events, no enum that could be closed,
and the same behaviour with every version of the client library.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from assistant_queue.backends.openai_errors import cut, is_foreign, translated
from assistant_queue.core.runs import RunEvent
from assistant_queue.errors import BackendError, OutcomeUnknown, RunVanished, StreamCut, UnknownThread

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
    """Seconds: until the first event of an answer, and between two of them."""

    first_s: float
    idle_s: float


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `name` is "" where the answer was plain JSON instead of a stream."""

    name: str
    data: Json


class EventParser:
    """Server-sent events out of chunks of bytes.

    Lines are split at bytes: `str.splitlines` would also split at U+2028 and the like inside a JSON string.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that this chunk completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = [self._line(line.removesuffix(b"\r")) for line in lines]
        return [event for event in events if event is not None]

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._complete()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode()
        elif field == b"data":
            self._data.append(value)
        return None

    def _complete(self) -> Event | None:
        name, data = self._name, b"\n".join(self._data)
        self._name, self._data = "", []
        parsed = _parsed(data)
        if parsed is None:
            return None
        return Event(name or str(parsed.get("type", "")), parsed)


def _parsed(data: bytes) -> Json | None:
    """The JSON object, None for anything else (`[DONE]`, a keep-alive)."""
    try:
        parsed = json.loads(data)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


class EventStream:
    """One request that starts or watches a run, as events.

    1. sends the request, within the limit for the first event
    2. yields events, each within the idle limit
    3. translates every failure: before an id is known as the request's, after that always as `StreamCut`
    4. closes the answer, however it ends

    The reader sets `run_id` as soon as it has seen one and `is_over` after the last event; the rest is then only drained.
    """

    def __init__(self, call: Call, *, limits: Limits, thread: str, missing: type[BackendError] = UnknownThread) -> None:
        self._call = call
        self._limits = limits
        self._thread = thread
        self._missing = missing
        self.run_id: str | None = None
        self.is_over = False

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events, in order. Use it with `aclosing`."""
        async with AsyncExitStack() as stack:
            with self._watched(self._limits.first_s):
                answer = await stack.enter_async_context(self._call())
                chunks = answer.iter_bytes()
                parser = EventParser() if "event-stream" in answer.headers.get("content-type", "") else _Body()
                found = await _next_events(chunks, parser)
            while found is not None:
                while found:
                    yield found.pop(0)  # nothing of an event is kept while the next is waited for: of a thousand runs that is megabytes
                found = await self._more(chunks, parser)

    async def _more(self, chunks: AsyncIterator[bytes], parser: EventParser | _Body) -> list[Event] | None:
        if self.is_over:
            await _drain(chunks)
            return None
        with self._watched(self._limits.idle_s):
            return await _next_events(chunks, parser)

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
        return OutcomeUnknown(
            f"The provider sent nothing for thread {self._thread!r} within {limit_s:g} s. "
            "It may have accepted the request; it is asked before anything is sent again."
        )

    def ended_early(self) -> BackendError:
        """What it means that the events stopped before the run's end."""
        if self.run_id is None:
            return OutcomeUnknown(
                f"The provider's answer for thread {self._thread!r} ended before it named a run; it is asked before anything is sent again."
            )
        return StreamCut(f"The stream of run {self.run_id!r} of thread {self._thread!r} ended before the run; follow it by its id.")


class _Body:
    """The stand-in for `EventParser` where a server ignores `stream`: the whole JSON answer as one event."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Event]:
        self._chunks.append(chunk)
        parsed = _parsed(b"".join(self._chunks)) if chunk.rstrip().endswith(b"}") else None
        return [] if parsed is None else [Event("", parsed)]


async def _next_events(chunks: AsyncIterator[bytes], parser: EventParser | _Body) -> list[Event] | None:
    """The next events, at least one; None at the end of the answer."""
    async for chunk in chunks:
        found = parser.feed(chunk)
        if found:
            return found
    return None


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
            parsed = _parsed(await answer.read())
    if parsed is None:
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
