"""Access by JSON web tokens: each token names a person and that person's threads.

Start it in this directory:

    export JWT_SECRET=...
    assistant-queue serve --app app:queue --authorize jwt_access:authorize --host 0.0.0.0

A token's claims: `sub` (the person), `name` (as others see it), `threads` (a list), `role` ("staff"
for everything), `exp` (expiry).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

import jwt
from starlette.requests import HTTPConnection

from assistant_queue.integrations.fastapi import (
    CHAT_ACTIONS,
    Action,
    Caller,
    NotAllowed,
    NotAuthenticated,
)

PEOPLE_SEE = frozenset(
    {
        "message_queued",
        "message_edited",
        "message_cancelled",
        "window_moved",
        "typing",
        "batch_claimed",
        "run_started",
        "text_delta",
        "reply_ready",
        "attempt_failed",
        "batch_dead_lettered",
        "events_missed",
    }
)
"""Events for customers: without tool calls and their outputs."""


def authorize(request: HTTPConnection, action: Action, thread_id: str | None) -> Caller:
    """Decide about every request, and again while a stream is open."""
    if action is Action.READ_HEALTH:
        return Caller()  # for load balancers
    claims = _claims(request, action)
    is_staff = claims.get("role") == "staff"
    if not is_staff:
        # Each room that the socket joins is authorized separately.
        is_opening_a_socket = action is Action.LISTEN and thread_id is None
        if action not in CHAT_ACTIONS or not (
            thread_id in claims.get("threads", ()) or is_opening_a_socket
        ):
            raise NotAllowed("this thread, or this action, is not yours")
    return Caller(
        id=claims["sub"],
        name=claims.get("name"),
        sees=None if is_staff else PEOPLE_SEE,
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),  # streams end with the token
    )


def _claims(request: HTTPConnection, action: Action) -> dict[str, object]:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer":
        # Browsers cannot set headers for EventSource and WebSocket: only these may have a token in
        # the address. Make it short-lived.
        token = request.query_params.get("access_token", "") if action is Action.LISTEN else ""
    try:
        return jwt.decode(
            token,
            os.environ["JWT_SECRET"],
            algorithms=["HS256"],
            options={"require": ["sub", "exp"]},
        )
    except jwt.PyJWTError as error:
        raise NotAuthenticated("no valid token") from error
