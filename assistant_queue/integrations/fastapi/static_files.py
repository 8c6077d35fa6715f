"""Static files of a page: sent compressed, with an entity tag, under a strict policy."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from fastapi import Request, Response

from assistant_queue.integrations.fastapi.service import Service

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


def files_in(package: str, *folders: str) -> dict[str, bytes]:
    """Return the files that a page of this package is served with, by their paths below it."""
    folder = files(package)
    return {
        f"{below}{one.name}": one.read_bytes()
        for below in ("", *folders)
        for one in folder.joinpath(below).iterdir()
        if one.name.rpartition(".")[2] in _TYPES
    }


def serving(service: Service, content: bytes, kind: str) -> Callable[[Request], Any]:
    """Return a route's function that sends a file; `kind` is the ending of its name."""
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
