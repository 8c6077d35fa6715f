"""What happens around every route: the request's id, its size and origin, who is asking, and errors as problems."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from assistant_queue.integrations.fastapi.access import Action, Caller
from assistant_queue.integrations.fastapi.origins import SAFE_METHODS
from assistant_queue.integrations.fastapi.problems import Refusal, problem_response, problems, refusal_of
from assistant_queue.integrations.fastapi.service import Service, request_id_of

ACTION = "x-action"
"""Where an operation says in the OpenAPI document which action `authorize` is asked about."""
THREAD_IN_BODY = "x-thread-in-body"
"""An operation whose thread id is not in its address."""

_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def operation(action: Action, *statuses: int, name: str, thread_in_body: bool = False, **more: Any) -> dict[str, Any]:
    """The keywords of a route: its action, its name, and what it may answer besides success.

    Args:
        action: What `authorize` is asked about.
        statuses: Beyond those that any route may answer.
        name: The operation's id, unique in an app.
        thread_in_body: The thread is named in the body.
        more: Handed on to FastAPI.
    """
    extra: dict[str, Any] = {ACTION: action.value}
    if thread_in_body:
        extra[THREAD_IN_BODY] = True
    responses = {**problems(*statuses), **more.pop("responses", {})}
    return {"name": f"assistant_queue.{name}", "operation_id": name, "openapi_extra": extra, "responses": responses, **more}


def caller_of(request: Request) -> Caller:
    """Who is asking, as was found out before the route was called."""
    found: Caller = request.state.assistant_queue_caller
    return found


def route_class(service: Service) -> type[APIRoute]:
    """A route that belongs to a service."""

    class GuardedRoute(APIRoute):
        """Asks first, then does."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """FastAPI's own handler, guarded."""
            inner = super().get_route_handler()
            extra = self.openapi_extra or {}
            action, thread_in_body = Action(extra[ACTION]), bool(extra.get(THREAD_IN_BODY))

            async def handle(request: Request) -> Response:
                request_id = request_id_of(request)
                try:
                    request = _limited(request, service.settings.max_body_bytes)
                    service.check_host(request)
                    if request.method not in SAFE_METHODS:
                        service.check_origin(request)
                    thread_id = await _thread_in_body(request) if thread_in_body else request.path_params.get("thread_id")
                    request.state.assistant_queue_caller = await service.admit(request, action, thread_id)
                    response = await inner(request)
                except Exception as error:  # noqa: BLE001 - whatever it is, clients get a problem and the log gets the rest
                    response = problem_response(refusal_of(error, request_id), request_id)
                response.headers["X-Request-ID"] = request_id
                for header, value in _HEADERS.items():
                    response.headers.setdefault(header, value)
                return response

            return handle

    return GuardedRoute


async def _thread_in_body(request: Request) -> str | None:
    """The thread that a body names; None where it names none: it is refused when it is read in full."""
    try:
        body = await request.json()
    except ValueError:
        return None
    thread_id = body.get("thread_id") if isinstance(body, dict) else None
    return thread_id if isinstance(thread_id, str) else None


def _limited(request: Request, most: int) -> Request:
    """The request, whose body ends in a refusal when it is longer than it may be.

    Raises:
        Refusal: It says itself that it is.
    """
    said = request.headers.get("content-length", "0")
    if not said.isdigit() or int(said) > most:
        raise _too_long(most)
    read = 0

    async def receive() -> Any:
        nonlocal read
        message = await request.receive()
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            if read > most:
                raise _too_long(most)
        return message

    return Request(request.scope, receive, request._send)  # noqa: SLF001 - there is no public way to copy a request


def _too_long(most: int) -> Refusal:
    return Refusal(413, "body_too_long", f"The body is longer than {most:,} bytes; nothing was done.")
