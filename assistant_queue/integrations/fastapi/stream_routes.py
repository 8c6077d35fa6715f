"""Routes of events: the streams of a thread and of all threads, and typing notices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Query, Request, Response
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from assistant_queue.client import arguments
from assistant_queue.integrations.fastapi.access import Action, Caller
from assistant_queue.integrations.fastapi.frames import note, place_of
from assistant_queue.integrations.fastapi.guarded_routes import caller_of, operation
from assistant_queue.integrations.fastapi.listener import Listener
from assistant_queue.integrations.fastapi.reauthorization import Reauthorization
from assistant_queue.integrations.fastapi.schemas import ThreadId, TypingBy
from assistant_queue.integrations.fastapi.service import Service

SEND_TIMEOUT_S = 30.0
"""Seconds without progress after which a listener is disconnected. Chosen: two heartbeats."""
FAREWELL_S = 2.0
"""Seconds for a stream to end when the server stops, before it is cut. Chosen: less than servers
wait."""

After = Annotated[
    str | None,
    Query(
        max_length=64,
        pattern=r"^[0-9]{1,19}(-[0-9]{1,19})?$",
        description=(
            "The last event that the client has, 0 for all that are kept; without it from now on. "
            "Last-Event-ID takes precedence."
        ),
    ),
]
LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", max_length=64, pattern=r"^([0-9]{1,19}(-[0-9]{1,19})?)?$"),
]
Name = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=arguments.MAX_AUTHOR,
        pattern=r"\S",
        description="Name in the thread's presence, which other listeners see.",
    ),
]


_EVENTS: dict[str, Any] = {
    "description": "Events, as they happen.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


def add_routes(router: APIRouter, service: Service) -> None:
    """Add the routes of events to a router."""

    @router.get("/threads/{thread_id}/events", response_class=EventSourceResponse, **operation(
        Action.LISTEN, 404, 501, name="listen", responses={200: _EVENTS},
    ))  # fmt: skip
    async def listen(
        request: Request,
        thread_id: ThreadId,
        after: After = None,
        last_event_id: LastEventId = None,
        name: Name = None,
    ) -> Response:
        """Stream a thread's server-sent events; the stream can be resumed after any of them."""
        caller = caller_of(request)
        start = last_event_id or after
        seen_as = shown_name(caller, arguments.check_author(name))
        return await _stream(
            service, request, service.rooms.listen(thread_id, start, caller, seen_as), start
        )

    @router.get("/feed", response_class=EventSourceResponse, **operation(
        Action.FEED, 501, name="feed", responses={200: _EVENTS},
    ))  # fmt: skip
    async def feed(
        request: Request, after: After = None, last_event_id: LastEventId = None
    ) -> Response:
        """Stream the server-sent events of all threads; it can be resumed after any of them.

        All events but `text_delta` and `typing`. An id of the feed is none of a thread's stream.
        """
        start = last_event_id or after
        opened = service.rooms.follow_all(start, caller_of(request))
        return await _stream(service, request, opened, start)

    @router.post(
        "/threads/{thread_id}/typing",
        status_code=204,
        **operation(Action.TYPE, 404, 413, name="typing"),
    )
    async def typing(request: Request, thread_id: ThreadId, body: TypingBy) -> None:
        """Note that a person types: a sliding window waits, and other listeners see it.

        Repeat it every few seconds.
        """
        await service.queue.typing(thread_id, shown_name(caller_of(request), body.author))

    del listen, feed, typing


async def _stream(
    service: Service,
    request: Request,
    opened: AbstractAsyncContextManager[Listener],
    start: str | None,
) -> Response:
    """Return the stream of a listener that is opened for it, after the event `start`."""
    if start is not None:
        place_of(start)
    key = service.client_key(request, caller_of(request))
    async with AsyncExitStack() as opening:
        opening.enter_context(service.gate.slot(key))
        listener = await opening.enter_async_context(opened)
        first = f"retry: {int(service.settings.reconnect_after * 1000)}\n\n".encode()
        watch = Reauthorization(service, request, listener.room.thread_id, listener)
        chunks = _chunks(listener, watch, first)
        return _Stream(chunks, opening.pop_all(), listener, ping=service.settings.heartbeat)
    raise AssertionError  # pragma: no cover - an exit stack swallows nothing


def shown_name(caller: Caller, asked: str | None) -> str | None:
    """Return the name that other listeners see: a caller with a name cannot choose another."""
    return caller.name if caller.name is not None else asked


class _Farewell:
    """Shutdown event of a stream that ends the listener, and so the stream after a whole event."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def set(self) -> None:
        """End the listener."""
        self._listener.end()


class _Stream(EventSourceResponse):
    """Closes what was opened for it, even if it ends before its first byte."""

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        opened: AsyncExitStack,
        listener: Listener,
        *,
        ping: float,
    ) -> None:
        super().__init__(
            chunks,
            ping=ping,
            sep="\n",
            send_timeout=SEND_TIMEOUT_S,
            shutdown_event=cast("Any", _Farewell(listener)),
            shutdown_grace_period=FAREWELL_S,
        )
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opened:
            await super().__call__(scope, receive, send)


async def _chunks(listener: Listener, watch: Reauthorization, first: bytes) -> AsyncIterator[bytes]:
    """Yield all available events at once."""
    yield first
    with watch:
        while not listener.is_over:
            frames = await listener.frames()
            refusal = await watch.refusal()
            if refusal is not None:
                yield note(
                    "closed", listener.room.thread_id, code=refusal.code, detail=refusal.detail
                ).sse
                return
            if frames:
                yield b"".join([frame.sse for frame in frames])
