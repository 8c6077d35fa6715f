"""CORS for allowed origins: answers to preflights, and the headers that browsers require.

Starlette's own middleware is not used: it sends some of the headers to origins that are not
allowed, too.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant_queue.integrations.fastapi.settings import Settings

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")
EXPOSED = ("Location", "Retry-After", "X-Request-ID")
MAX_AGE_S = 600
"""Seconds for which browsers may cache a preflight. Chosen: as Starlette and most services."""
LONGEST = 1000
"""Characters of the header names in one preflight. Chosen: some forty headers."""
_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")


class Cors:
    """Answer preflights of allowed origins, and name the origin in all answers to its pages.

    Other origins get none of these headers.

    Cookies and the header `Authorization` are allowed. `authorize` may decide by any header, so a
    preflight of an allowed origin is granted those it asks for.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._origins = settings.origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or answer it if it is a preflight of an allowed origin."""
        if scope["type"] != "http":  # the origin of a socket is checked by its route
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        is_allowed = origin.lower() in self._origins

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.add_vary_header("Origin")
                if is_allowed:
                    answer["Access-Control-Allow-Origin"] = origin
                    answer["Access-Control-Allow-Credentials"] = "true"
                    answer["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)
            await send(message)

        if (
            is_allowed
            and scope["method"] == "OPTIONS"
            and "access-control-request-method" in headers
        ):
            await self._preflight(headers)(scope, receive, send_marked)
        else:
            await self._app(scope, receive, send_marked)

    def _preflight(self, headers: Headers) -> Response:
        granted = {
            "Access-Control-Allow-Methods": ", ".join(METHODS),
            "Access-Control-Max-Age": str(MAX_AGE_S),
        }
        asked = headers.get("access-control-request-headers", "")
        if len(asked) <= LONGEST and _NAMES.fullmatch(asked):
            granted["Access-Control-Allow-Headers"] = asked
        granted["Vary"] = "Access-Control-Request-Method, Access-Control-Request-Headers"
        return Response(status_code=204, headers=granted)
