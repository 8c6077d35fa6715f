"""The WebSocket: several threads on one connection, as rooms that are joined and left."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack, suppress
from typing import Any

from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect, WebSocketState

from assistant_queue import arguments
from assistant_queue.errors import InvalidArgument
from assistant_queue.integrations.fastapi.access import Action
from assistant_queue.integrations.fastapi.frames import note
from assistant_queue.integrations.fastapi.invalid import fields_of
from assistant_queue.integrations.fastapi.messages import add
from assistant_queue.integrations.fastapi.problems import Refusal, problem_dict, problem_response, refusal_of
from assistant_queue.integrations.fastapi.rooms import Listener
from assistant_queue.integrations.fastapi.schemas import SEGMENT, NewMessage
from assistant_queue.integrations.fastapi.service import Service, request_id_of
from assistant_queue.integrations.fastapi.streams import shown_name
from assistant_queue.integrations.fastapi.watching import Watch

MAX_ROOMS = 50
"""Threads that one socket listens to at once. Chosen."""
_IN_AN_ADDRESS = re.compile(SEGMENT, re.DOTALL)
RESTART = 1012
"""Source: the IANA registry of close codes: the service restarts, come back."""


def add_routes(router: APIRouter, service: Service) -> None:
    """Give a router the socket."""

    @router.websocket("/socket", name="assistant_queue.socket")
    async def socket(websocket: WebSocket) -> None:
        """`join`, `leave`, `say` and `typing`; see docs/http.md."""
        request_id = request_id_of(websocket)
        try:
            service.check_host(websocket)
            service.check_origin(websocket)
            caller = await service.admit(websocket, Action.LISTEN, None)
            key = service.client_key(websocket, caller)
            with service.gate.slot(key):
                await websocket.accept(headers=[(b"x-request-id", request_id.encode())])
                await _Connection(service, websocket, request_id).serve()
        except Exception as error:  # noqa: BLE001 - told as a problem, as everywhere
            if websocket.application_state is WebSocketState.CONNECTING:
                await websocket.send_denial_response(problem_response(refusal_of(error, request_id), request_id))
            elif not isinstance(error, WebSocketDisconnect):
                refusal_of(error, request_id)  # logs what is not ours

    del socket


class _Connection:
    """One open socket.

    1. reads what the client wants, one after the other, and asks `authorize` about each
    2. tells it what happens in the threads it has joined, each by a task of its own
    3. ends with the client, or with the server
    """

    def __init__(self, service: Service, websocket: WebSocket, request_id: str) -> None:
        self._service, self._socket, self._request_id = service, websocket, request_id
        self._rooms: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """Until it is over."""
        closing = asyncio.create_task(self._service.closing.wait())
        reading = asyncio.create_task(self._read())
        try:
            await asyncio.wait({closing, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                with suppress(RuntimeError, WebSocketDisconnect):
                    await self._socket.close(RESTART)
        finally:
            tasks = [closing, reading, *self._rooms.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            said = message.get("text") or (message.get("bytes") or b"").decode("utf-8", "replace")
            wish: dict[str, Any] = {}
            ref: Any = None
            try:
                if len(said.encode("utf-8", "replace")) > self._service.settings.max_body_bytes:
                    raise Refusal(413, "body_too_long", f"A message is longer than {self._service.settings.max_body_bytes:,} bytes.")
                wish = _wish(said)
                ref = wish.get("ref")
                await self._do(wish, ref)
            except WebSocketDisconnect:
                return
            except Exception as error:  # noqa: BLE001 - one wish failed, the socket goes on
                await self._refuse(error, wish, ref)

    async def _do(self, wish: dict[str, Any], ref: Any) -> None:
        thread_id = _thread_of(wish)
        kind = wish.get("type")
        if kind == "join":
            await self._join(thread_id, wish, ref)
        elif kind == "leave":
            task = self._rooms.pop(thread_id, None)
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
            await self._tell(note("left", thread_id, ref=ref).text)
        elif kind == "say":
            caller = await self._service.admit(self._socket, Action.SEND_MESSAGE, thread_id)
            known = {name: wish[name] for name in ("message", "author", "instructions", "metadata", "message_id") if name in wish}
            accepted = await add(self._service, self._socket, caller, thread_id, NewMessage(**known))
            await self._tell(json.dumps({"type": "accepted", "ref": ref, **accepted.model_dump(mode="json")}))
        elif kind == "typing":
            caller = await self._service.admit(self._socket, Action.TYPE, thread_id)
            await self._service.queue.typing(thread_id, shown_name(caller, wish.get("author")))
        else:
            raise InvalidArgument("type must be join, leave, say or typing")

    async def _join(self, thread_id: str, wish: dict[str, Any], ref: Any) -> None:
        caller = await self._service.admit(self._socket, Action.LISTEN, thread_id)
        if thread_id in self._rooms and not self._rooms[thread_id].done():
            raise Refusal(409, "already_joined", "This socket is in that room already.")
        self._rooms = {name: task for name, task in self._rooms.items() if not task.done()}
        if len(self._rooms) >= MAX_ROOMS:
            raise Refusal(429, "too_many_rooms", f"One socket is in {MAX_ROOMS} rooms at most.")
        after, name = wish.get("after"), wish.get("name")
        if not isinstance(after, str | None) or not isinstance(name, str | None):
            raise InvalidArgument("after must be the id of an event, and name a string")
        name = shown_name(caller, arguments.check_author(name))
        async with AsyncExitStack() as opening:
            listener = await opening.enter_async_context(self._service.rooms.listen(thread_id, after, caller, name))
            await self._tell(note("joined", thread_id, ref=ref).text)
            self._rooms[thread_id] = asyncio.create_task(self._follow(listener, opening.pop_all()))
            await asyncio.sleep(0)  # it begins: a task that is cancelled before that gives nothing back

    async def _follow(self, listener: Listener, opened: AsyncExitStack) -> None:
        thread_id = listener.room.thread_id
        watch = Watch(self._service, self._socket, thread_id, listener)
        async with opened:
            with watch, suppress(WebSocketDisconnect, RuntimeError):
                while not listener.is_over:
                    frames = await listener.frames()
                    refusal = await watch.refusal()
                    if refusal is not None:
                        await self._tell(note("closed", thread_id, code=refusal.code, detail=refusal.detail).text)
                        return
                    for frame in frames:
                        await self._tell(frame.text)
                await self._tell(note("closed", thread_id, code="again", detail="Join again, after the last event you have.").text)

    async def _tell(self, text: str) -> None:
        async with self._sending:
            await self._socket.send_text(text)

    async def _refuse(self, error: Exception, wish: dict[str, Any], ref: Any) -> None:
        if isinstance(error, ValidationError):
            fields = fields_of(error.errors(), wish, within="")
            error = Refusal(422, "invalid_request", "This cannot be read; nothing was done. `fields` says why.", fields=fields)
        refusal = refusal_of(error, self._request_id)
        retry = {"retry_after": int(refusal.headers["Retry-After"])} if "Retry-After" in refusal.headers else {}
        await self._tell(json.dumps({**problem_dict(refusal, self._request_id), "type": "problem", "ref": ref, **retry}))


def _thread_of(wish: dict[str, Any]) -> str:
    """The thread that is meant: as in an address, no id has a slash."""
    thread_id = arguments.check_thread_id(wish.get("thread_id"))
    if _IN_AN_ADDRESS.fullmatch(thread_id) is None:
        raise InvalidArgument("thread_id has a slash, or is only dots: over HTTP that is no id of a thread; nothing was done")
    return thread_id


def _wish(said: str) -> dict[str, Any]:
    try:
        wish = json.loads(said)
    except ValueError:
        raise InvalidArgument("a message on the socket is a JSON object with type and thread_id") from None
    if not isinstance(wish, dict):
        raise InvalidArgument("a message on the socket is a JSON object with type and thread_id")
    return wish
