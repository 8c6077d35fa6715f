"""The router for your own app, and the whole service."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Unpack

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

from assistant_queue import __version__
from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import (
    approval_routes,
    link_routes,
    message_routes,
    metrics_routes,
    operation_routes,
    operator_routes,
    run_routes,
    sockets,
    stream_routes,
    takeover_routes,
    thread_routes,
    webhook_routes,
)
from assistant_queue.integrations.fastapi.access import Authorize, check_authorize
from assistant_queue.integrations.fastapi.cors import Cors
from assistant_queue.integrations.fastapi.guarded_routes import route_class
from assistant_queue.integrations.fastapi.ops_page import add_operations_page
from assistant_queue.integrations.fastapi.page import add_page
from assistant_queue.integrations.fastapi.problems import (
    ProblemRefusal,
    problem_response,
    refusal_of,
)
from assistant_queue.integrations.fastapi.root_path import BelowPath, check_root_path
from assistant_queue.integrations.fastapi.service import Service, request_id_of
from assistant_queue.integrations.fastapi.settings import HttpOptions, make_settings

API = "/api"
"""Path prefix of the whole service's routes; the page is at its root."""

AnyQueue = AssistantMessageQueue | AsyncAssistantMessageQueue


def create_router(
    queue: AnyQueue, *, authorize: Authorize | None = None, **options: Unpack[HttpOptions]
) -> APIRouter:
    """Return the queue's routes, for your own app.

    `app.include_router(create_router(queue, authorize=...), prefix="/assistant")`

    Args:
        queue: A queue of either class. An asyncio one belongs to the app's event loop, and you
            close it; of a blocking one only the options are used.
        authorize: `(request, action, thread_id) -> Caller | bool`, sync or async: called for every
            request before it is handled, and again while streams are open. There is no default:
            `allow_all` allows every action to every client.
        options: Limits and origins; see `HttpOptions`.

    Raises:
        ConfigurationError: `authorize` is missing, or an option is wrong.
    """
    return router_of(make_service(queue, authorize, options))


def make_service(queue: Any, authorize: Any, options: Any) -> Service:
    """Return the service of a router; raises as `create_router` does."""
    return Service(queue, check_authorize(authorize), make_settings(dict(options)))


def router_of(service: Service) -> APIRouter:
    """Return a router with all routes of a service."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        del app
        try:
            yield
        finally:
            await service.close()

    router = APIRouter(
        route_class=route_class(service), lifespan=lifespan, tags=["assistant-queue"]
    )
    for part in (
        message_routes,
        thread_routes,
        takeover_routes,
        run_routes,
        stream_routes,
        approval_routes,
        link_routes,
        operator_routes,
        operation_routes,
        metrics_routes,
        sockets,
        webhook_routes,
    ):
        part.add_routes(router, service)
    return router


def create_app(
    queue: AnyQueue,
    *,
    authorize: Authorize | None = None,
    page: bool = True,
    assistant_name: str = "Assistant",
    root_path: str = "",
    **options: Unpack[HttpOptions],
) -> FastAPI:
    """Return an app with the routes under `/api`, the chat page at `/`, operations at `/ops`.

    Raises as `create_router` does.

    Args:
        queue: As for `create_router`.
        authorize: As for `create_router`; the pages' files are public.
        page: Serve the chat page and the operations page.
        assistant_name: The assistant's name on the page.
        root_path: The path below which a proxy serves the app, such as `/chat`, whether or not the
            proxy removes it. An app that is mounted in another one needs none.
        options: As for `create_router`.
    """
    return app_of(
        make_service(queue, authorize, options),
        page=page,
        assistant_name=assistant_name,
        root_path=root_path,
    )


def app_of(service: Service, *, page: bool, assistant_name: str, root_path: str = "") -> FastAPI:
    """Return the app of a service; raises `ConfigurationError` for an invalid `root_path`."""
    root_path = check_root_path(root_path)
    app = FastAPI(
        title="assistant-queue",
        version=__version__,
        description="Many messages, many workers, one run at a time per conversation - "
        "and every message answered exactly once.",
        docs_url=None,  # its pages load scripts from other hosts
        redoc_url=None,
        openapi_url=None,  # it would be written anew for each request
        redirect_slashes=False,  # the target would be the Host header, which the client chooses
    )
    router = router_of(service)
    app.include_router(router, prefix=API)
    root = APIRouter(route_class=route_class(service))
    metrics_routes.add_routes(root, service, is_in_document=False)
    link_routes.add_routes(root, service, is_in_document=False)
    app.include_router(root)
    _add_document(app)

    async def answer(request: Request, error: Exception) -> Response:
        """Answer a request that no route has answered."""
        request_id = request_id_of(request)
        response = problem_response(refusal_of(error, request_id), request_id)
        response.headers["X-Request-ID"] = request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        if "Allow" in response.headers:
            response.headers["Allow"] = _allowed(
                router, request.scope["path"].removeprefix(request.scope.get("root_path", ""))
            )
        return response

    for refused in (404, 405, 500, ProblemRefusal):
        app.add_exception_handler(refused, answer)
    if page:
        add_page(app, service, assistant_name=assistant_name, api=API, root_path=root_path)
        add_operations_page(app, service, api=API, root_path=root_path)
    if root_path:
        app.add_middleware(BelowPath, root_path=root_path)
    if service.settings.origins:
        app.add_middleware(Cors, settings=service.settings)
    return app


def _add_document(app: FastAPI) -> None:
    """Serve the OpenAPI document, written once for each path below which the app is served."""
    written: dict[str, bytes] = {}

    def write(root_path: str) -> bytes:
        servers = {"servers": [{"url": root_path}]} if root_path else {}
        return json.dumps({**app.openapi(), **servers}).encode()

    async def answer(request: Request) -> Response:
        root_path = request.scope.get("root_path", "").rstrip("/")
        if root_path not in written:
            # In a thread: it takes a tenth of a second the first time.
            written[root_path] = await run_in_threadpool(write, root_path)
        return Response(written[root_path], media_type="application/json")

    app.add_route(f"{API}/openapi.json", answer, methods=["GET"], include_in_schema=False)


def _allowed(router: APIRouter, path: str) -> str:
    """Return the methods of a path: the framework knows those of one route only."""
    routes = [
        route
        for route in router.routes
        if isinstance(route, APIRoute) and route.path_regex.match(path.removeprefix(API))
    ]
    return (
        ", ".join(sorted({method for route in routes for method in route.methods or ()})) or "GET"
    )
