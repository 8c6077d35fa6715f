"""The path below which a proxy serves the service, whether or not the proxy removes it."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant_queue.errors import ConfigurationError

_FORM = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_OWN = frozenset({"api", "page", "room"})
"""First segments of the service's own addresses, below which `/api/...` would be ambiguous."""


def check_root_path(root_path: str) -> str:
    """Return the path without a slash at its end, `""` for none.

    Raises:
        ConfigurationError: It has another form, or begins like one of the service's own addresses.
    """
    path = root_path.rstrip("/") if isinstance(root_path, str) else root_path
    if path == "":
        return ""
    if not isinstance(path, str) or _FORM.fullmatch(path) is None:
        raise ConfigurationError(
            f"Invalid root_path {root_path!r}: expected a path such as /chat, "
            "of letters, digits and . _ ~ - between slashes"
        )
    segments = path.split("/")[1:]
    if segments[0] in _OWN or not {".", ".."}.isdisjoint(segments):
        names = ", ".join(f"/{name}" for name in sorted(_OWN))
        raise ConfigurationError(
            f"Invalid root_path {root_path!r}: the service's own addresses begin with {names}; "
            "choose another path"
        )
    return path


class BelowPath:
    """Give each request its whole path and its `root_path`, as ASGI specifies them.

    The path without a slash at its end is redirected to the one with a slash.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, with the path added if the proxy removed it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if path == self._root and scope["type"] == "http":
            query = scope.get("query_string", b"").decode("latin-1")
            # Without a host: the Host header is the client's choice.
            response = RedirectResponse(f"{self._root}/{'?' * bool(query)}{query}", 307)
            await response(scope, receive, send)
            return
        if not path.startswith(f"{self._root}/"):
            path = self._root + path  # removed by the proxy
        below: dict[str, Any] = {**scope, "path": path, "root_path": self._root}
        await self._app(below, receive, send)
