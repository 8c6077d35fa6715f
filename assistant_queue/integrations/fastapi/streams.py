"""Routes of what happens in a thread: an event stream, and who types."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Query, Request, Response
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from assistant_queue import arguments
from assistant_queue.integrations.fastapi.access import Action, Caller
from assistant_queue.integrations.fastapi.frames import note, place_of
from assistant_queue.integrations.fastapi.listener import Listener
from assistant_queue.integrations.fastapi.routing import caller_of, operation
from assistant_queue.integrations.fastapi.schemas import ThreadId, TypingBy
from assistant_queue.integrations.fastapi.service import Service
from assistant_queue.integrations.fastapi.watching import Watch

SEND_TIMEOUT_S = 30.0
"""A listener that takes nothing for so long is sent away. Chosen."""
FAREWELL_S = 2.0
"""Seconds that a stream may take to end when the server stops, before it is cut. Chosen: below any server's own patience."""

After = Annotated[
    str | None,
    Query(
        max_length=64,
        pattern=r"^[0-9]{1,19}(-[0-9]{1,19})?$",
        description="The last event that is known, 0 for all that is kept; without it from now on. Last-Event-ID counts more.",
    ),
]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=64, pattern=r"^([0-9]{1,19}(-[0-9]{1,19})?)?$")]
Name = Annotated[
    str | None,
    Query(min_length=1, max_length=arguments.MAX_AUTHOR, pattern=r"\S", description="Be here under this name, for others to see."),
]


def add_routes(router: APIRouter, service: Service) -> None:
    """Give a router the routes of what happens."""

    @router.get("/threads/{thread_id}/events", response_class=EventSourceResponse, **operation(
        Action.LISTEN, 404, 501, name="listen",
        responses={200: {"description": "Events, as they happen.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    ))  # fmt: skip
    async def listen(
        request: Request, thread_id: ThreadId, after: After = None, last_event_id: LastEventId = None, name: Name = None
    ) -> Response:
        """What happens in a thread, as a stream of server-sent events that can be resumed from any of them."""
        start = last_event_id or after
        if start is not None:
            place_of(start)
        seen_as = arguments.check_author(name)
        caller = caller_of(request)
        key = service.client_key(request, caller)
        async with AsyncExitStack() as opening:
            opening.enter_context(service.gate.slot(key))
            listener = await opening.enter_async_context(service.rooms.listen(thread_id, start, caller, shown_name(caller, seen_as)))
            first = f"retry: {int(service.settings.reconnect_after * 1000)}\n\n".encode()
            chunks = _chunks(listener, Watch(service, request, thread_id, listener), first)
            return _Stream(chunks, opening.pop_all(), listener, ping=service.settings.heartbeat)
        raise AssertionError  # pragma: no cover - an exit stack swallows nothing

    @router.post("/threads/{thread_id}/typing", status_code=204, **operation(Action.TYPE, 404, 413, name="typing"))
    async def typing(request: Request, thread_id: ThreadId, body: TypingBy) -> None:
        """Somebody types: a sliding window waits for it, and the others see it. Say it again every few seconds."""
        await service.queue.typing(thread_id, shown_name(caller_of(request), body.author))

    del listen, typing


def shown_name(caller: Caller, asked: str | None) -> str | None:
    """The name others see: who is known cannot choose another."""
    return caller.name if caller.name is not None else asked


class _Farewell:
    """What is told that the server stops: the listener ends, and its stream with it, whole."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def set(self) -> None:
        """The server stops."""
        self._listener.end()


class _Stream(EventSourceResponse):
    """Gives back what was opened for it, also where it ends before its first byte."""

    def __init__(self, chunks: AsyncIterator[bytes], opened: AsyncExitStack, listener: Listener, *, ping: float) -> None:
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


async def _chunks(listener: Listener, watch: Watch, first: bytes) -> AsyncIterator[bytes]:
    """As many events as there are, at once."""
    yield first
    with watch:
        while not listener.is_over:
            frames = await listener.frames()
            refusal = await watch.refusal()
            if refusal is not None:
                yield note("closed", listener.room.thread_id, code=refusal.code, detail=refusal.detail).sse
                return
            if frames:
                yield b"".join([frame.sse for frame in frames])
