"""The chat page: static files, no build step, no files of other hosts."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse

from assistant_queue.client.arguments import MAX_PARTS_BYTES
from assistant_queue.config.protocol import takes_files
from assistant_queue.integrations.fastapi.service import Service

ROOM_FOR_TEXT = 100_000
"""Bytes of a body that files leave free. Chosen: the page's longest text in any script."""
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
HEADERS = {
    # Only own files, no inline script or style, no markup made from text, no framing of the page.
    # Pictures also from data: those of messages are written out in them.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def page_files() -> dict[str, bytes]:
    """Return the page's files by their path below `page/`."""
    folder = files(__package__ or "")
    return {
        f"{below}{one.name}": one.read_bytes()
        for below in ("", "vendor/")
        for one in folder.joinpath(below).iterdir()
        if one.name.rpartition(".")[2] in _TYPES
    }


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

    def serve(content: bytes, kind: str) -> Callable[[Request], Any]:
        tag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {**HEADERS, "ETag": tag, "Vary": "Accept-Encoding"}
        packed = gzip.compress(content, mtime=0)

        async def answer(request: Request) -> Response:
            service.check_host(request)
            if tag in request.headers.get("if-none-match", ""):
                return Response(status_code=304, headers=headers)
            if "gzip" in request.headers.get("accept-encoding", ""):
                zipped = {**headers, "Content-Encoding": "gzip"}
                return Response(packed, headers=zipped, media_type=_TYPES[kind])
            return Response(content, headers=headers, media_type=_TYPES[kind])

        return answer

    found = page_files()
    for path, up in (("/", ""), ("/room/{room}", "../")):
        root = f"{root_path}/" if root_path else up
        index = found["index.html"].replace(b'="page/', f'="{root}page/'.encode())
        app.add_route(path, serve(index, "html"), methods=["GET"], include_in_schema=False)
    app.add_route("/room/{room}/", _without_slash, methods=["GET"], include_in_schema=False)
    for name, content in found.items():
        app.add_route(
            f"/page/{name}",
            serve(content, name.rpartition(".")[2]),
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
