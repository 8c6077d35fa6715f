"""Serve HTTP: authentication, faults, the choice of the endpoint, and the answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant_queue.testing.provider.actions import (
    CutStream,
    Delay,
    ErrorAnswer,
    Refuse,
    ReplyWith,
    Silence,
)
from assistant_queue.testing.provider.api_errors import ApiProblem, unreadable_body
from assistant_queue.testing.provider.client import OK, Client, Drop
from assistant_queue.testing.provider.error_bodies import body_of, error_event
from assistant_queue.testing.provider.faults import find
from assistant_queue.testing.provider.log import Answered, Refusal, Request
from assistant_queue.testing.provider.routing import Answer, ApiCall, ConnectionDropped, Operation
from assistant_queue.testing.provider.script import RunFailure
from assistant_queue.testing.provider.sse import StreamAnswer, dumps
from assistant_queue.testing.provider.state import World
from assistant_queue.testing.provider.stream_style import styled
from assistant_queue.testing.provider.troubles import trouble_of, wording_of
from assistant_queue.testing.provider.wordings import Facts

_SERVER_ERROR = 500
_PREFIX = "/v1"


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
            # The provider is being stopped: the connection is gone, and this answer has no reader.
            return

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await _read(receive)
        headers = {name: held for name, held in scope["headers"] if name in _HEADERS_READ}
        body, is_readable = _parse(raw)
        request = self._record(scope, headers, body)
        self._world.log.add(request)
        client = Client(scope, receive, send, self._drop)
        try:
            self._check(request, headers, is_readable=is_readable)
            call = ApiCall(
                request,
                body or {},
                self._world.faults.take(request),
                self._world.strict,
                self._world.personality,
            )
            await self._act(call, client)
        except ApiProblem as problem:
            await self._refuse(request, problem, client, scripted=False)
        except ConnectionDropped:
            await client.drop()
            self._answered(request, None, "dropped")
        except Exception as error:  # noqa: BLE001 - a bug must reach the test as an answer
            self._world.model_errors.append(error)
            failure = ApiProblem(
                f"The stand-in failed: {error!r}", status=_SERVER_ERROR, error_type="server_error"
            )
            await self._refuse(request, failure, client, scripted=False)

    def _check(
        self, request: Request, headers: Mapping[bytes, bytes], *, is_readable: bool
    ) -> None:
        server = self._world.personality
        if server.keys == "checked" and headers.get(b"authorization") != self._authorization:
            raise trouble_of(server, "wrong_key")
        # `models.retrieve` belongs to no protocol.
        if request.protocol not in server.speaks and request.op != "models.retrieve":
            raise trouble_of(
                server, "unknown_path", Facts(path=f"{request.method} {_PREFIX}{request.path}")
            )
        if not is_readable:
            raise unreadable_body()

    async def _act(self, call: ApiCall, client: Client) -> None:
        """Carry out a call as its faults require."""
        delay, refusal, silence = (find(kind, call.actions) for kind in (Delay, Refuse, Silence))
        trouble = find(ErrorAnswer, call.actions)
        if (
            trouble is not None
            and self._operation.op == "responses.create"
            and wording_of(call.server, trouble.kind).is_failed_run
        ):
            call = replace(call, actions=(*call.actions, ReplyWith(RunFailure(kind=trouble.kind))))
        elif trouble is not None:
            refusal = Refuse(
                trouble_of(call.server, trouble.kind, _facts(call, trouble)), accept=trouble.accept
            )
        if isinstance(delay, Delay) and delay.before:
            await asyncio.sleep(delay.before)
        if isinstance(refusal, Refuse) and not refusal.accept:
            await self._refuse(call.request, refusal.problem, client, scripted=True)
            return
        if isinstance(silence, Silence) and not silence.accept:
            await self._keep_silent(call.request, silence, client, None)
            return
        answer = await self._operation.handler(call)
        cut = find(CutStream, call.actions)
        if isinstance(answer, StreamAnswer) and cut is not None and cut.abort:
            # Tied to the event, not to the moment the connection is cut: by then a fast run would
            # have finished.
            answer.tape.set_fuse(cut.after_events or 0, answer.abort)
        if isinstance(delay, Delay) and delay.after:
            await asyncio.sleep(delay.after)
        if isinstance(refusal, Refuse):
            await self._refuse(call.request, refusal.problem, client, scripted=True)
        elif isinstance(silence, Silence):
            await self._keep_silent(call.request, silence, client, answer)
        else:
            await self._answer(call, answer, client)

    async def _answer(self, call: ApiCall, answer: Answer, client: Client) -> None:
        if not isinstance(answer, StreamAnswer):
            self._answered(call.request, OK, "answered")
            await client.send_bytes(
                OK,
                dumps(answer),
                call.server.json_type,
                {"x-request-id": f"req_{call.request.number}"},
            )
            return
        cut = find(CutStream, call.actions)
        is_whole = await client.send_stream(
            answer, cut, {"x-request-id": f"req_{call.request.number}"}
        )
        if is_whole:
            self._answered(call.request, OK, "streamed")
            return
        self._answered(call.request, None, "cut")

    async def _keep_silent(
        self, request: Request, silence: Silence, client: Client, answer: Answer | None
    ) -> None:
        self._answered(request, None, "dropped" if silence.drop else "unanswered")
        if silence.drop:
            await client.drop()
        else:
            await client.gone()
        if isinstance(answer, StreamAnswer) and answer.left is not None:
            answer.left()

    async def _refuse(
        self, request: Request, problem: ApiProblem, client: Client, *, scripted: bool
    ) -> None:
        now = time.time()
        self._world.log.add(
            Refusal(
                request.number,
                now,
                request.op,
                request.conversation_id,
                problem.status,
                None if problem.code is None else str(problem.code),
                problem.message,
                scripted,
            )
        )
        self._answered(request, problem.status, "refused")
        server = self._world.personality
        headers = {"x-request-id": f"req_{request.number}", **problem.headers}
        is_in_stream = (
            server.errors_in_stream if problem.is_in_stream is None else problem.is_in_stream
        )
        if is_in_stream and (request.body or {}).get("stream"):
            event = error_event(problem, server, request.protocol)
            await client.send_bytes(
                OK, styled(server)(event, is_first=True), server.content_type or "", headers
            )
            return
        await client.send_bytes(problem.status, *body_of(problem, server), headers)

    def _answered(self, request: Request, status: int | None, how: str) -> None:
        self._world.log.add(Answered(request.number, time.time(), request.op, status, how))

    def _record(
        self, scope: Scope, headers: Mapping[bytes, bytes], body: dict[str, Any] | None
    ) -> Request:
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


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _parse(raw: bytes) -> tuple[dict[str, Any] | None, bool]:
    """Return the JSON object of a body, and whether the body is readable; no body is."""
    if not raw:
        return None, True
    try:
        body = json.loads(raw)
    except ValueError:
        return None, False
    return (body, True) if isinstance(body, dict) else (None, False)


def _query(raw: bytes) -> dict[str, str]:
    return dict(parse_qsl(raw.decode())) if raw else {}


def _conversation_of(
    world: World, params: Mapping[str, str], body: Mapping[str, Any] | None
) -> str | None:
    """Return the conversation or thread of a request.

    It is in the path, in the body, or in the response that the body names.
    """
    named = (
        params.get("conversation_id") or params.get("thread_id") or (body or {}).get("conversation")
    )
    if isinstance(named, dict):
        named = named.get("id")
    if named is None and "response_id" in params:
        response = world.responses.get(params["response_id"])
        if response is not None and response.conversation is not None:
            named = response.conversation.id
    return named if isinstance(named, str) else None


class _ByMethod:
    """Route one path to the endpoint of the method."""

    def __init__(self, unknown: Endpoint) -> None:
        self._unknown = unknown
        self._endpoints: dict[str, Endpoint] = {}

    def add(self, method: str, endpoint: Endpoint) -> None:
        """Answer a method of this path."""
        self._endpoints[method] = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._endpoints.get(scope["method"], self._unknown)(scope, receive, send)


def _facts(call: ApiCall, trouble: ErrorAnswer) -> Facts:
    return Facts(model=str(call.body.get("model") or "some-model"), wait_s=trouble.retry_after)


async def _refuse_unknown(call: ApiCall) -> Answer:
    raise trouble_of(
        call.server,
        "unknown_path",
        Facts(path=f"{call.request.method} {_PREFIX}{call.request.path}"),
    )


def build_app(operations: Sequence[Operation], world: World, api_key: str, drop: Drop) -> ASGIApp:
    """Build the application of a provider.

    Args:
        operations: The endpoints, more special paths first.
        world: State of the provider.
        api_key: The only key accepted.
        drop: Closes the connection of a peer (`scope["client"]`).
    """
    unknown = Endpoint(
        Operation("unknown", "*", "", "responses", _refuse_unknown), world, api_key, drop
    )
    paths: dict[str, _ByMethod] = {}
    for operation in operations:
        path = paths.setdefault(_PREFIX + operation.path, _ByMethod(unknown))
        path.add(operation.method, Endpoint(operation, world, api_key, drop))
    routes = [Route(path, endpoint) for path, endpoint in paths.items()]
    return Router(routes, redirect_slashes=False, default=unknown)
