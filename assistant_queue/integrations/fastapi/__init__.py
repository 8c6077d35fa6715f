"""The queue over HTTP: a router for your own FastAPI app, or a whole service.

Needs the extra `web`; see docs/http.md.
"""

from __future__ import annotations

from assistant_queue.errors import MissingExtra, NotAllowed, NotAuthenticated

try:
    import fastapi as _fastapi
    import limits as _limits
    import sse_starlette as _sse_starlette
except ImportError as error:
    raise MissingExtra(
        f"the HTTP service needs {error.name}: pip install 'assistant-queue[web]'"
    ) from error

from assistant_queue.integrations.fastapi.access import CHAT_ACTIONS, Action, Caller, allow_all
from assistant_queue.integrations.fastapi.app import create_app, create_router
from assistant_queue.integrations.fastapi.settings import HttpOptions

del _fastapi, _limits, _sse_starlette

__all__ = [
    "CHAT_ACTIONS",
    "Action",
    "Caller",
    "HttpOptions",
    "NotAllowed",
    "NotAuthenticated",
    "allow_all",
    "create_app",
    "create_router",
]
