"""Steps around every route: request id, size, origin, authorization, and errors as problems."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast
from urllib.parse import quote

from fastapi import Request, Response, Security
from fastapi.routing import APIRoute

from assistant_queue.integrations.fastapi.access import Action, Caller
from assistant_queue.integrations.fastapi.origins import SAFE_METHODS
from assistant_queue.integrations.fastapi.problems import problem_response, problems, refusal_of
from assistant_queue.integrations.fastapi.request_bodies import check_length, read_body
from assistant_queue.integrations.fastapi.service import Service, request_id_of
from assistant_queue.logs import bound

ACTION = "x-action"
"""Field of an operation in the OpenAPI document that holds the action passed to `authorize`."""
THREAD_IN_BODY = "x-thread-in-body"
"""Field of an operation with its thread id in the body."""
NOT_COUNTED = "x-not-counted"
"""Field of an operation that `request_limit` does not count, so that it needs no Redis."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


_SUMMARIES = {
    "add_message": "Queue a message",
    "chat": "Queue a message and wait for its reply",
    "listen": "Stream what happens to a thread",
    "feed": "Stream what happens to all threads",
    "typing": "Say that a person types",
    "pause": "Pause all threads",
    "resume": "Resume all threads",
    "read_status": "Count messages",
    "list_failed": "List failed batches",
    "retry_failed": "Retry a failed batch",
    "discard_failed": "Discard a failed batch",
    "answer_tools": "Answer the tool calls of a run",
    "read_history": "Read what was said in a thread",
    "read_metrics": "Read the metrics of the queue",
    "read_overview": "Read the queue at a glance",
    "read_spans": "Read the kept history of the metrics",
    "browse_threads": "List threads for operators",
    "browse_approvals": "List the tool calls that operators may settle",
    "read_thread_view": "Read everything that is known of a thread",
    "browse_failed": "List failed batches for operators",
    "search_queue": "Search the queue",
    "search_audit": "Search the audit's database",
    "list_operations": "List what operators did",
    "operate": "Perform an operation",
    "take_over_thread": "Have a person answer a thread",
    "hand_back_thread": "Have the model answer a thread again",
    "list_approvals": "List the tool calls that wait",
    "read_approvals": "List the tool calls of a thread that wait",
    "live": "Check that the process answers",
    "ready": "Check that messages are taken and answered",
}
"""Summaries of operations for which the name and an article are not enough: `read_message` is "Read
a message"."""


def summary_of(name: str) -> str:
    """Return the summary of an operation in the OpenAPI document."""
    verb, _, noun = name.partition("_")
    return _SUMMARIES.get(name) or f"{verb.capitalize()} a {noun.replace('_', ' ')}"


def operation(
    action: Action,
    *statuses: int,
    name: str,
    thread_in_body: bool = False,
    counted: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """Return the keywords of a route: its action, name and responses.

    Args:
        action: Passed to `authorize`.
        statuses: Beyond those that any route may answer.
        name: The operation's id, unique in an app.
        thread_in_body: The thread is named in the body.
        counted: `request_limit` counts it.
        more: Passed to FastAPI.
    """
    extra: dict[str, Any] = {ACTION: action.value}
    if thread_in_body:
        extra[THREAD_IN_BODY] = True
    if not counted:
        extra[NOT_COUNTED] = True
    responses = {**problems(*statuses), **more.pop("responses", {})}
    return {
        "name": f"assistant_queue.{name}",
        "operation_id": name,
        "summary": summary_of(name),
        "openapi_extra": extra,
        "responses": responses,
        **more,
    }


def caller_of(request: Request) -> Caller:
    """Return the caller that `authorize` returned before the route was called."""
    found: Caller = request.state.assistant_queue_caller
    return found


def address_of(request: Request) -> str:
    """Return the quoted path of a request.

    `request.url` would not do: parsing a URL drops line breaks.
    """
    return quote(request.scope["path"], safe="/")


def route_class(service: Service) -> type[APIRoute]:
    """Return the route class of a service."""

    class GuardedRoute(APIRoute):
        """A route that checks limits, origin and permission before its handler runs."""

        def __init__(self, *args: Any, **options: Any) -> None:
            # The security schemes are for the document alone: `authorize` has been called before
            # any dependency is.
            have = list(options.pop("dependencies", None) or ())
            # Including a router creates its routes again, with the dependencies added here.
            known = [one.dependency for one in have]
            have.extend(
                Security(cast("Callable[..., Any]", one))
                for one in service.settings.security
                if one not in known
            )
            super().__init__(*args, dependencies=have, **options)

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """Return FastAPI's handler, guarded."""
            inner = super().get_route_handler()
            extra = self.openapi_extra or {}
            action = Action(extra[ACTION])
            thread_in_body = bool(extra.get(THREAD_IN_BODY))
            counted = not extra.get(NOT_COUNTED)

            async def handle(request: Request) -> Response:
                request_id = request_id_of(request)
                try:
                    most = service.settings.max_body_bytes
                    check_length(request, most)
                    if counted:  # first: a flood of requests that are refused is one, too
                        await service.count(request)
                    service.check_host(request)
                    if request.method not in SAFE_METHODS:
                        service.check_origin(request)
                    if request.method not in SAFE_METHODS:
                        request = await read_body(
                            request, most, service.bodies, service.origins.counted_address(request)
                        )
                    thread_id = (
                        await _thread_in_body(request)
                        if thread_in_body
                        else request.path_params.get("thread_id")
                    )
                    request.state.assistant_queue_caller = await service.admit(
                        request, action, thread_id
                    )
                    with bound(request_id=request_id):
                        response = await inner(request)
                except Exception as error:  # noqa: BLE001 - clients get a problem, the log gets the rest
                    refusal = refusal_of(error, request_id)
                    service.slow_down_if_too_many(request, refusal)
                    response = problem_response(refusal, request_id)
                response.headers["X-Request-ID"] = request_id
                for header, value in _HEADERS.items():
                    response.headers.setdefault(header, value)
                return response

            return handle

    return GuardedRoute


async def _thread_in_body(request: Request) -> str | None:
    """Return the thread id in a body; without a valid one None: validation refuses it later."""
    try:
        body = await request.json()
    except ValueError:
        return None
    thread_id = body.get("thread_id") if isinstance(body, dict) else None
    return thread_id if isinstance(thread_id, str) else None
