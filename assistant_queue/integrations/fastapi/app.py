"""The router for an app of yours, and the whole service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from typing_extensions import Unpack

from assistant_queue import __version__
from assistant_queue.aio import AsyncAssistantMessageQueue
from assistant_queue.integrations.fastapi import messages, operating, runs, sockets, streams, threads
from assistant_queue.integrations.fastapi.access import Authorize, check_authorize
from assistant_queue.integrations.fastapi.cors import Cors
from assistant_queue.integrations.fastapi.page import add_page
from assistant_queue.integrations.fastapi.problems import Refusal, problem_response, refusal_of
from assistant_queue.integrations.fastapi.root_path import BelowPath, check_root_path
from assistant_queue.integrations.fastapi.routing import route_class
from assistant_queue.integrations.fastapi.service import Service, request_id_of
from assistant_queue.integrations.fastapi.settings import HttpOptions, make_settings
from assistant_queue.queue import AssistantMessageQueue

API = "/api"
"""Where the whole service has its routes; the page is at its root."""

AnyQueue = AssistantMessageQueue | AsyncAssistantMessageQueue


def create_router(queue: AnyQueue, *, authorize: Authorize | None = None, **options: Unpack[HttpOptions]) -> APIRouter:
    """The queue's routes, for an app of yours: `app.include_router(create_router(queue, authorize=...), prefix="/assistant")`.

    Args:
        queue: Either door. An asyncio one belongs to the app's event loop, and you close it; of a blocking one only the options are used.
        authorize: `(request, action, thread_id) -> Caller | bool`, sync or async: asked about every request before anything is done,
            and again while streams are open. There is no default: `allow_all` says that everybody may do everything.
        options: Limits and origins; see `HttpOptions`.

    Raises:
        ConfigurationError: `authorize` is missing, or an option is wrong.
    """
    return router_of(make_service(queue, authorize, options))


def make_service(queue: Any, authorize: Any, options: Any) -> Service:
    """What stands behind a router; raises as `create_router` does."""
    return Service(queue, check_authorize(authorize), make_settings(dict(options)))


def router_of(service: Service) -> APIRouter:
    """All routes of a service."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        del app
        try:
            yield
        finally:
            await service.close()

    router = APIRouter(route_class=route_class(service), lifespan=lifespan, tags=["assistant-queue"])
    for part in (messages, threads, runs, streams, operating, sockets):
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
    """A whole service: the routes under `/api`, and the chat page at `/`. Raises as `create_router` does.

    Args:
        queue: As for `create_router`.
        authorize: As for `create_router`; the page's files are for everybody.
        page: With the chat page.
        assistant_name: Who answers, as the page calls it.
        root_path: The path below which a proxy serves the app, such as `/chat`, whether or not the proxy removes it. An app that is mounted
            in another one needs none.
        options: As for `create_router`.
    """
    return app_of(make_service(queue, authorize, options), page=page, assistant_name=assistant_name, root_path=root_path)


def app_of(service: Service, *, page: bool, assistant_name: str, root_path: str = "") -> FastAPI:
    """Make the app around a service; raises `ConfigurationError` for a `root_path` that cannot be."""
    root_path = check_root_path(root_path)
    app = FastAPI(
        title="assistant-queue",
        version=__version__,
        description="Many messages, many workers, one run at a time per conversation - and every message answered exactly once.",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        redirect_slashes=False,  # to where the Host header says, whoever wrote that
    )
    router = router_of(service)
    app.include_router(router, prefix=API)

    async def tell(request: Request, error: Exception) -> Response:
        """What no route of ours has answered."""
        request_id = request_id_of(request)
        response = problem_response(refusal_of(error, request_id), request_id)
        response.headers["X-Request-ID"] = request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        if "Allow" in response.headers:
            response.headers["Allow"] = _allowed(router, request.scope["path"].removeprefix(request.scope.get("root_path", "")))
        return response

    for refused in (404, 405, 500, Refusal):
        app.add_exception_handler(refused, tell)
    if page:
        add_page(app, service, assistant_name=assistant_name, api=API, root_path=root_path)
    if root_path:
        app.add_middleware(BelowPath, root_path=root_path)
    if service.settings.origins:
        app.add_middleware(Cors, settings=service.settings)
    return app


def _allowed(router: APIRouter, path: str) -> str:
    """The methods of an address: the framework knows those of one route only."""
    routes = [route for route in router.routes if isinstance(route, APIRoute) and route.path_regex.match(path.removeprefix(API))]
    return ", ".join(sorted({method for route in routes for method in route.methods or ()})) or "GET"
