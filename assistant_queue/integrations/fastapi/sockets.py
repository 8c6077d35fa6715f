"""The WebSocket: several threads on one connection, as rooms that are joined and left."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack, suppress
from typing import Any

import anyio
from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect, WebSocketState

from assistant_queue.client import arguments
from assistant_queue.errors import InvalidArgument
from assistant_queue.integrations.fastapi.access import Action, Caller
from assistant_queue.integrations.fastapi.frame_limits import Throttle, TooFast
from assistant_queue.integrations.fastapi.frames import note
from assistant_queue.integrations.fastapi.invalid_requests import fields_of
from assistant_queue.integrations.fastapi.listener import Listener
from assistant_queue.integrations.fastapi.message_routes import add
from assistant_queue.integrations.fastapi.problems import (
    ProblemRefusal,
    problem_dict,
    problem_response,
    refusal_of,
)
from assistant_queue.integrations.fastapi.reauthorization import Reauthorization
from assistant_queue.integrations.fastapi.request_bodies import check_json
from assistant_queue.integrations.fastapi.schemas import SEGMENT, NewMessage
from assistant_queue.integrations.fastapi.service import Service, request_id_of
from assistant_queue.integrations.fastapi.stream_routes import SEND_TIMEOUT_S, shown_name
from assistant_queue.logs import bound

MAX_ROOMS = 50
"""Threads that one socket listens to at once. Chosen: more than a person has open."""
_IN_AN_ADDRESS = re.compile(SEGMENT, re.DOTALL)
BAD_FRAMES = 5
"""Consecutive unreadable frames; the last of them closes the socket. Chosen: a developer of a
client sees the answers to the first ones."""
UNREADABLE = frozenset({"invalid_argument", "invalid_request", "too_complex", "body_too_long"})
"""Codes of problems with a frame itself, not with its request."""
INVALID = 1007
POLICY = 1008
RESTART = 1012
"""Close codes: invalid data, exceeded limits, a restart after which clients reconnect. Source: the
IANA registry of WebSocket close codes."""
FAREWELL_S = 1.0
"""Seconds for a close frame to fit into the buffer of a client that reads nothing. Chosen: the
server's stop waits for it."""


def add_routes(router: APIRouter, service: Service) -> None:
    """Add the socket to a router."""

    @router.websocket("/socket", name="assistant_queue.socket")
    async def socket(websocket: WebSocket) -> None:
        """`join`, `leave`, `say` and `typing`; see docs/http.md."""
        request_id = request_id_of(websocket)
        try:
            await service.count(websocket)
            service.check_host(websocket)
            service.check_origin(websocket)
            caller = await service.admit(websocket, Action.LISTEN, None)
            key = service.client_key(websocket, caller)
            with (
                service.gate.slot(key),
                service.paces.throttle(key) as throttle,
                suppress(OSError, WebSocketDisconnect),
            ):
                await websocket.accept(headers=[(b"x-request-id", request_id.encode())])
                with bound(request_id=request_id):
                    await _Connection(service, websocket, request_id, throttle).serve()
        except Exception as error:  # noqa: BLE001 - answered with a problem, as everywhere
            refusal = refusal_of(error, request_id)
            service.slow_down_if_too_many(websocket, refusal)
            with suppress(OSError):
                await _deny(websocket, refusal, request_id)

    del socket


async def _deny(websocket: WebSocket, refusal: ProblemRefusal, request_id: str) -> None:
    """Refuse a handshake with a problem, or with a plain 403 if the server sends no body.

    An open socket is closed.
    """
    if (
        websocket.application_state is WebSocketState.CONNECTING
        and "websocket.http.response" in websocket.scope.get("extensions", {})
    ):
        await websocket.send_denial_response(problem_response(refusal, request_id))
    elif websocket.application_state is not WebSocketState.DISCONNECTED:
        await websocket.close(POLICY, refusal.code)


class _Connection:
    """One open socket.

    1. reads the client's messages one after the other, and calls `authorize` for each
    2. sends the events of each joined thread, in one task per thread
    3. ends with the client or the server, or if the client sends too much or reads too slowly
    """

    def __init__(
        self, service: Service, websocket: WebSocket, request_id: str, throttle: Throttle
    ) -> None:
        self._service = service
        self._socket = websocket
        self._request_id = request_id
        self._throttle = throttle
        self._rooms: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()
        self._end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Serve the socket until it ends."""
        closing = asyncio.create_task(self._service.closing.wait())
        reading = asyncio.create_task(self._read())
        try:
            ends: set[asyncio.Future[Any]] = {closing, reading, self._end}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._end.done() or not reading.done():
                code, reason = self._end.result() if self._end.done() else (RESTART, "")
                with suppress(RuntimeError, WebSocketDisconnect), anyio.move_on_after(FAREWELL_S):
                    await self._socket.close(code, reason)
        finally:
            tasks = [closing, reading, *self._rooms.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _close(self, code: int, reason: str) -> None:
        self._service.slow_down(self._socket)
        if not self._end.done():
            self._end.set_result((code, reason))

    async def _read(self) -> None:
        unreadable = 0
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                await self._throttle.turn()
                problem = await self._handle(message)
            except WebSocketDisconnect:
                return
            except TooFast:
                self._close(POLICY, "too many messages; send fewer")
                return
            unreadable = unreadable + 1 if problem in UNREADABLE else 0
            if unreadable == BAD_FRAMES:
                self._close(INVALID, f"{BAD_FRAMES} messages in a row that cannot be read")
                return

    async def _handle(self, message: Any) -> str | None:
        """Handle a message; return the code of the problem in the answer, if any."""
        request: dict[str, Any] = {}
        ref: Any = None
        try:
            request = _parse(message, self._service.settings.max_body_bytes)
            ref = request.get("ref")
            await self._do(request, ref)
        except WebSocketDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - one request failed, the socket stays open
            return await self._refuse(error, request, ref)
        return None

    async def _do(self, request: dict[str, Any], ref: Any) -> None:
        thread_id = _thread_of(request)
        kind = request.get("type")
        if kind == "join":
            await self._join(thread_id, request, ref)
        elif kind == "leave":
            task = self._rooms.pop(thread_id, None)
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
            await self._send(note("left", thread_id, ref=ref).text)
        elif kind == "say":
            caller = await self._admit(Action.SEND_MESSAGE, thread_id)
            known = {
                name: request[name]
                for name in (
                    "message",
                    "author",
                    "instructions",
                    "metadata",
                    "message_id",
                    "tenant",
                    "wants_reply",
                    "message_delay",
                    "hold",
                    "mid_run",
                )
                if name in request
            }
            accepted = await add(
                self._service, self._socket, caller, thread_id, NewMessage(**known)
            )
            await self._send(
                json.dumps({"type": "accepted", "ref": ref, **accepted.model_dump(mode="json")})
            )
        elif kind == "typing":
            caller = await self._admit(Action.TYPE, thread_id)
            await self._service.queue.typing(thread_id, shown_name(caller, request.get("author")))
        else:
            raise InvalidArgument("type must be join, leave, say or typing")

    async def _admit(self, action: Action, thread_id: str) -> Caller:
        await self._service.count(self._socket)
        return await self._service.admit(self._socket, action, thread_id)

    async def _join(self, thread_id: str, request: dict[str, Any], ref: Any) -> None:
        caller = await self._admit(Action.LISTEN, thread_id)
        if thread_id in self._rooms and not self._rooms[thread_id].done():
            raise ProblemRefusal(409, "already_joined", "This socket is in that room already.")
        self._rooms = {name: task for name, task in self._rooms.items() if not task.done()}
        if len(self._rooms) >= MAX_ROOMS:
            raise ProblemRefusal(
                429, "too_many_rooms", f"One socket is in {MAX_ROOMS} rooms at most."
            )
        after, name = request.get("after"), request.get("name")
        if not isinstance(after, str | None) or not isinstance(name, str | None):
            raise InvalidArgument("after must be the id of an event, and name a string")
        name = shown_name(caller, arguments.check_author(name))
        async with AsyncExitStack() as opening:
            listener = await opening.enter_async_context(
                self._service.rooms.listen(thread_id, after, caller, name)
            )
            await self._send(note("joined", thread_id, ref=ref).text)
            self._rooms[thread_id] = asyncio.create_task(self._follow(listener, opening.pop_all()))
            # Let the task start: one that is cancelled before would not close what was opened.
            await asyncio.sleep(0)

    async def _follow(self, listener: Listener, opened: AsyncExitStack) -> None:
        thread_id = listener.room.thread_id
        watch = Reauthorization(self._service, self._socket, thread_id, listener)
        async with opened:
            with watch, suppress(WebSocketDisconnect, RuntimeError):
                while not listener.is_over:
                    frames = await listener.frames()
                    refusal = await watch.refusal()
                    if refusal is not None:
                        await self._send(
                            note("closed", thread_id, code=refusal.code, detail=refusal.detail).text
                        )
                        return
                    for frame in frames:
                        await self._send(frame.text)
                await self._send(
                    note(
                        "closed",
                        thread_id,
                        code="again",
                        detail="Join again, after the last event you have.",
                    ).text
                )

    async def _send(self, text: str) -> None:
        async with self._sending:
            try:
                with anyio.fail_after(SEND_TIMEOUT_S):
                    await self._socket.send_text(text)
            except TimeoutError:
                self._close(POLICY, "reads too slowly; come back and resume")
                raise WebSocketDisconnect(POLICY) from None

    async def _refuse(self, error: Exception, request: dict[str, Any], ref: Any) -> str:
        if isinstance(error, ValidationError):
            fields = fields_of(error.errors(), request, within="")
            error = ProblemRefusal(
                422,
                "invalid_request",
                "This cannot be read; nothing was done. `fields` says why.",
                fields=fields,
            )
        refusal = refusal_of(error, self._request_id)
        retry = (
            {"retry_after": int(refusal.headers["Retry-After"])}
            if "Retry-After" in refusal.headers
            else {}
        )
        await self._send(
            json.dumps(
                {**problem_dict(refusal, self._request_id), "type": "problem", "ref": ref, **retry}
            )
        )
        return refusal.code


def _thread_of(request: dict[str, Any]) -> str:
    """Return the valid thread id of a request: as in an address, without a slash."""
    thread_id = arguments.check_thread_id(request.get("thread_id"))
    if _IN_AN_ADDRESS.fullmatch(thread_id) is None:
        raise InvalidArgument(
            "thread_id has a slash, or is only dots: over HTTP that is no id of a thread; "
            "nothing was done"
        )
    return thread_id


def _parse(message: Any, most: int) -> dict[str, Any]:
    """Parse a message.

    Raises:
        ProblemRefusal: It is too long or too complex; it was not parsed.
        InvalidArgument: It is not a JSON object.
    """
    text = message.get("text")
    data: bytes = message.get("bytes") or b""
    if text is not None:
        data = text.encode("utf-8", "replace")
    if len(data) > most:
        raise ProblemRefusal(413, "body_too_long", f"A message is longer than {most:,} bytes.")
    check_json(data)
    try:
        request = json.loads(data.decode("utf-8", "replace"))
    except ValueError:
        raise InvalidArgument(
            "a message on the socket is a JSON object with type and thread_id"
        ) from None
    if not isinstance(request, dict):
        raise InvalidArgument("a message on the socket is a JSON object with type and thread_id")
    return request
