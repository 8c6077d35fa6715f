"""The operations page: static files over the routes of `operation_routes.py`, no build step."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse

from assistant_queue.integrations.fastapi.service import Service
from assistant_queue.integrations.fastapi.static_files import files_in, serving

PATH = "/ops"


def add_operations_page(app: FastAPI, service: Service, *, api: str, root_path: str) -> None:
    """Serve the page at `/ops`, and its files below that.

    Its addresses are relative, so it works below any path. They begin with a `root_path`, as those
    of the chat page do.
    """
    found = files_in(__package__ or "")
    index = found.pop("index.html")
    if root_path:
        index = index.replace(b'="ops/', f'="{root_path}/ops/'.encode())
    app.add_route(PATH, serving(service, index, "html"), methods=["GET"], include_in_schema=False)
    app.add_route(f"{PATH}/", _without_slash, methods=["GET"], include_in_schema=False)
    for name, content in found.items():
        app.add_route(
            f"{PATH}/{name}",
            serving(service, content, name.rpartition(".")[2]),
            methods=["GET"],
            include_in_schema=False,
        )

    @app.get(f"{PATH}/settings.json", include_in_schema=False)
    async def settings(request: Request) -> dict[str, Any]:
        service.check_host(request)
        return {"api": api.lstrip("/")}

    del settings


async def _without_slash(_: Request) -> Response:
    """Redirect relatively: a proxy may have removed a part of the path."""
    return RedirectResponse(f"..{PATH}", 307)
