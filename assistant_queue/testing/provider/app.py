"""The HTTP side: who is asking, what the faults want, which endpoint answers, and how the answer goes out."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant_queue.testing.provider.actions import CutStream, Delay, Refuse, Silence
from assistant_queue.testing.provider.faults import find
from assistant_queue.testing.provider.log import Answered, Refusal, Request
from assistant_queue.testing.provider.problems import ApiProblem, unknown_url, unreadable_body, wrong_key
from assistant_queue.testing.provider.routing import Answer, Call, ConnectionDropped, Operation
from assistant_queue.testing.provider.sse import StreamAnswer, dumps
from assistant_queue.testing.provider.state import World

_OK = 200
_SERVER_ERROR = 500
_PREFIX = "/v1"

Drop = Callable[[Any], None]


class Endpoint:
    """One operation as an ASGI application.

    1. Reads the request, checks the key, logs it.
    2. Lets the faults refuse, delay or swallow it.
    3. Calls the operation and sends its answer, or its error in the provider's shape.
    """

    def __init__(self, operation: Operation, world: World, api_key: str, drop: Drop) -> None:
        self._operation = operation
        self._world = world
        self._authorization = f"Bearer {api_key}".encode()
        self._drop = drop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            await self._serve(scope, receive, send)
        except asyncio.CancelledError:
            # The provider is being stopped: the connection is gone and nobody waits for this answer.
            return

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await _read(receive)
        headers = {name: held for name, held in scope["headers"] if name in _HEADERS_READ}
        body, is_readable = _parse(raw)
        request = self._record(scope, headers, body)
        self._world.log.add(request)
        client = _Client(scope, receive, send, self._drop)
        try:
            if headers.get(b"authorization") != self._authorization:
                raise wrong_key()
            if not is_readable:
                raise unreadable_body()
            await self._act(Call(request, body or {}, self._world.faults.take(request), self._world.strict), client)
        except ApiProblem as problem:
            await self._refuse(request, problem, client, scripted=False)
        except ConnectionDropped:
            await client.drop()
            self._answered(request, None, "dropped")
        except Exception as error:  # noqa: BLE001 - a bug here must reach the test as an answer, not as a hang
            self._world.model_errors.append(error)
            problem = ApiProblem(f"The stand-in failed: {error!r}", status=_SERVER_ERROR, error_type="server_error")
            await self._refuse(request, problem, client, scripted=False)

    async def _act(self, call: Call, client: _Client) -> None:
        """Carry out a call as its faults want it."""
        delay, refusal, silence = (find(kind, call.actions) for kind in (Delay, Refuse, Silence))
        if isinstance(delay, Delay) and delay.before:
            await asyncio.sleep(delay.before)
        if isinstance(refusal, Refuse) and not refusal.accept:
            await self._refuse(call.request, refusal.problem, client, scripted=True)
            return
        if isinstance(silence, Silence) and not silence.accept:
            await self._keep_silent(call.request, silence, client)
            return
        answer = await self._operation.handler(call)
        if isinstance(delay, Delay) and delay.after:
            await asyncio.sleep(delay.after)
        if isinstance(refusal, Refuse):
            await self._refuse(call.request, refusal.problem, client, scripted=True)
        elif isinstance(silence, Silence):
            await self._keep_silent(call.request, silence, client)
        else:
            await self._answer(call, answer, client)

    async def _answer(self, call: Call, answer: Answer, client: _Client) -> None:
        if not isinstance(answer, StreamAnswer):
            self._answered(call.request, _OK, "answered")
            await client.send_json(_OK, answer, {"x-request-id": f"req_{call.request.number}"})
            return
        cut = find(CutStream, call.actions)
        is_whole = await client.send_stream(answer, cut, {"x-request-id": f"req_{call.request.number}"})
        if is_whole:
            self._answered(call.request, _OK, "streamed")
            return
        self._answered(call.request, None, "cut")
        if cut is not None and cut.abort:
            answer.abort()

    async def _keep_silent(self, request: Request, silence: Silence, client: _Client) -> None:
        self._answered(request, None, "dropped" if silence.drop else "unanswered")
        if silence.drop:
            await client.drop()
        else:
            await client.gone()

    async def _refuse(self, request: Request, problem: ApiProblem, client: _Client, *, scripted: bool) -> None:
        now = time.time()
        self._world.log.add(
            Refusal(
                request.number,
                now,
                request.op,
                request.conversation_id,
                problem.status,
                problem.code,
                problem.message,
                scripted,
            )
        )
        self._answered(request, problem.status, "refused")
        body = problem.as_json(self._world.personality.error_body)
        await client.send_json(problem.status, body, {"x-request-id": f"req_{request.number}", **problem.headers})

    def _answered(self, request: Request, status: int | None, how: str) -> None:
        self._world.log.add(Answered(request.number, time.time(), request.op, status, how))

    def _record(self, scope: Scope, headers: Mapping[bytes, bytes], body: dict[str, Any] | None) -> Request:
        params = dict(scope.get("path_params") or {})
        return Request(
            number=self._world.log.next_number(),
            at=time.time(),
            method=scope["method"],
            path=scope["path"].removeprefix(_PREFIX),
            op=self._operation.op,
            protocol=self._operation.protocol,
            conversation_id=_conversation_of(self._world, params, body),
            params=params,
            query=_query(scope["query_string"]),
            body=body,
            retry_count=int(headers.get(b"x-stainless-retry-count", b"0")),
        )


_HEADERS_READ = frozenset({b"authorization", b"x-stainless-retry-count"})


class _Client:
    """The other end of one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, drop: Drop) -> None:
        self._peer = scope.get("client")
        self._receive = receive
        self._send = send
        self._drop = drop

    async def send_json(self, status: int, body: Any, headers: Mapping[str, str]) -> None:
        """Send a whole answer."""
        raw = dumps(body)
        sent = {"content-type": "application/json", "content-length": str(len(raw)), **headers}
        await self._start(status, sent)
        await self._send({"type": "http.response.body", "body": raw})

    async def send_stream(self, answer: StreamAnswer, cut: CutStream | None, headers: Mapping[str, str]) -> bool:
        """Send a stream until its end, True, or until it is cut, False."""
        await self._start(_OK, {"content-type": "text/event-stream; charset=utf-8", **headers})
        # Sent at once, so that the client has the headers while the first event is still to come.
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})
        scissors = _Scissors(cut)
        async for frames in answer.tape.follow(answer.start):
            body = scissors.trim(frames)
            if body:
                await self._send({"type": "http.response.body", "body": body, "more_body": True})
            if scissors.is_through:
                break
        if scissors.is_through or answer.tape.is_broken:
            await self.drop()
            return False
        await self._send({"type": "http.response.body", "body": b""})
        return True

    async def drop(self) -> None:
        """Cut the connection, after what was sent has gone out."""
        self._drop(self._peer)
        await self.gone()

    async def gone(self) -> None:
        """Wait until the client is not there any more."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        raw = [(name.encode(), held.encode()) for name, held in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})


class _Scissors:
    """Counts events and bytes of a stream and says where it ends."""

    def __init__(self, cut: CutStream | None) -> None:
        self._events = None if cut is None else cut.after_events
        self._bytes = None if cut is None else cut.after_bytes
        self.is_through = self._events == 0 or self._bytes == 0

    def trim(self, frames: Sequence[bytes]) -> bytes:
        """What may still be sent of these events."""
        if self.is_through:
            return b""
        if self._events is not None:
            frames = frames[: self._events]
            self._events -= len(frames)
        body = b"".join(frames)
        if self._bytes is not None:
            body = body[: self._bytes]
            self._bytes -= len(body)
        self.is_through = self._events == 0 or self._bytes == 0
        return body


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _parse(raw: bytes) -> tuple[dict[str, Any] | None, bool]:
    """The JSON object of a body, and whether the body could be read; no body can."""
    if not raw:
        return None, True
    try:
        body = json.loads(raw)
    except ValueError:
        return None, False
    return (body, True) if isinstance(body, dict) else (None, False)


def _query(raw: bytes) -> dict[str, str]:
    from urllib.parse import parse_qsl  # noqa: PLC0415

    return dict(parse_qsl(raw.decode())) if raw else {}


def _conversation_of(world: World, params: Mapping[str, str], body: Mapping[str, Any] | None) -> str | None:
    """The conversation or thread a request is about: in its path, in its body, or that of the response it names."""
    named = params.get("conversation_id") or params.get("thread_id") or (body or {}).get("conversation")
    if isinstance(named, dict):
        named = named.get("id")
    if named is None and "response_id" in params:
        response = world.responses.get(params["response_id"])
        if response is not None and response.conversation is not None:
            named = response.conversation.id
    return named if isinstance(named, str) else None


def _unknown(world: World) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        problem = unknown_url(scope["method"], scope["path"])
        body = problem.as_json(world.personality.error_body)
        await _Client(scope, receive, send, lambda _peer: None).send_json(problem.status, body, {})

    return answer


def build_app(operations: Sequence[Operation], world: World, api_key: str, drop: Drop) -> ASGIApp:
    """The application of a provider.

    Args:
        operations: The endpoints, more special paths first.
        world: What they work on.
        api_key: The only key accepted.
        drop: Closes the connection of a peer (`scope["client"]`).
    """
    routes = [
        Route(_PREFIX + operation.path, Endpoint(operation, world, api_key, drop), methods=[operation.method])
        for operation in operations
    ]
    return Router(routes, redirect_slashes=False, default=_unknown(world))
