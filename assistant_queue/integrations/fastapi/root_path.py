"""The path below which a proxy serves the whole service, whether or not the proxy removes it before it forwards a request."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant_queue.errors import ConfigurationError

_FORM = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_OWN = frozenset({"api", "page", "room"})
"""How the service's own addresses begin: below such a path, `/api/...` could mean either the whole address or what is left of it."""


def check_root_path(root_path: str) -> str:
    """Return the path without a slash at its end, `""` for none.

    Raises:
        ConfigurationError: It has another form, or begins as the service's own addresses do.
    """
    path = root_path.rstrip("/") if isinstance(root_path, str) else root_path
    if path == "":
        return ""
    if not isinstance(path, str) or _FORM.fullmatch(path) is None:
        raise ConfigurationError(
            f"Invalid root_path {root_path!r}: expected a path such as /chat, of letters, digits and . _ ~ - between slashes"
        )
    segments = path.split("/")[1:]
    if segments[0] in _OWN or not {".", ".."}.isdisjoint(segments):
        names = ", ".join(f"/{name}" for name in sorted(_OWN))
        raise ConfigurationError(f"Invalid root_path {root_path!r}: the service's own addresses begin with {names}; choose another path")
    return path


class BelowPath:
    """Give each request its whole path and its `root_path`, as ASGI describes them; redirect the bare path to the one with a slash."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app, self._root = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, below the path if it is not yet."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if path == self._root and scope["type"] == "http":
            query = scope.get("query_string", b"").decode("latin-1")
            # Without a host: the Host header is the client's word.
            response = RedirectResponse(f"{self._root}/{'?' * bool(query)}{query}", 307)
            await response(scope, receive, send)
            return
        if not path.startswith(f"{self._root}/"):
            path = self._root + path  # the proxy has removed it
        below: dict[str, Any] = {**scope, "path": path, "root_path": self._root}
        await self._app(below, receive, send)
