"""The chat page: static files, no build step, no files of other hosts."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse

from assistant_queue.client.arguments import MAX_PARTS_BYTES
from assistant_queue.config.protocol import takes_files
from assistant_queue.integrations.fastapi.service import Service
from assistant_queue.integrations.fastapi.static_files import files_in, serving

ROOM_FOR_TEXT = 100_000
"""Bytes of a body that files leave free. Chosen: the page's longest text in any script."""


def page_files() -> dict[str, bytes]:
    """Return the page's files by their path below `page/`."""
    return files_in(__package__ or "", "vendor/")


def add_page(
    app: FastAPI, service: Service, *, assistant_name: str, api: str, root_path: str
) -> None:
    """Serve the page at `/` and at `/room/...`, and its files beside it.

    The page's addresses are relative, so it works below any path. With a `root_path` they begin
    with that, so the page also works at the path without its last slash.
    """
    config = service.queue.config
    page_settings: dict[str, Any] = {
        "assistant": assistant_name,
        "api": api.lstrip("/"),
        "window_s": config.message_delay,
        "files": {
            "inline": takes_files(config),
            "max_bytes": max(
                0, min(service.settings.max_body_bytes, MAX_PARTS_BYTES) - ROOM_FOR_TEXT
            ),
        },
    }

    found = page_files()
    for path, up in (("/", ""), ("/room/{room}", "../")):
        root = f"{root_path}/" if root_path else up
        index = found["index.html"].replace(b'="page/', f'="{root}page/'.encode())
        app.add_route(
            path, serving(service, index, "html"), methods=["GET"], include_in_schema=False
        )
    app.add_route("/room/{room}/", _without_slash, methods=["GET"], include_in_schema=False)
    for name, content in found.items():
        app.add_route(
            f"/page/{name}",
            serving(service, content, name.rpartition(".")[2]),
            methods=["GET"],
            include_in_schema=False,
        )

    @app.get("/page/settings.json", include_in_schema=False)
    async def settings(request: Request) -> dict[str, Any]:
        service.check_host(request)
        return page_settings

    del settings


async def _without_slash(request: Request) -> Response:
    """Redirect relatively: a proxy may have removed a part of the path."""
    return RedirectResponse(f"../{quote(request.path_params['room'], safe='')}", 307)
