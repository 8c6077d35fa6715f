"""Access by a session cookie, as in a web shop.

Requests that change something also need a token (double submit). Start it in this directory:

    export SESSION_SECRET=...
    assistant-queue serve --app app:queue --authorize cookie_access:authorize --host 0.0.0.0

After your own login, set both cookies of `cookies_for(user_id)`; your page's script repeats the
second in the header X-CSRF-Token. The service itself refuses requests from pages of other sites
(Origin), so the token is the second of two locks.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time

from starlette.requests import HTTPConnection

from assistant_queue.integrations.fastapi import (
    CHAT_ACTIONS,
    Action,
    Caller,
    NotAllowed,
    NotAuthenticated,
)

SESSION = "__Host-session"
CSRF = "__Host-csrf"
LIFE_S = 8 * 3600
CHANGES = {Action.SEND_MESSAGE, Action.EDIT_MESSAGE, Action.CANCEL_MESSAGE, Action.TYPE}


def authorize(request: HTTPConnection, action: Action, thread_id: str | None) -> Caller:
    """Allow each logged-in user exactly one thread."""
    if action is Action.READ_HEALTH:
        return Caller()
    session = request.cookies.get(SESSION, "")
    user_id = _read(session)
    is_opening_a_socket = action is Action.LISTEN and thread_id is None
    if action not in CHAT_ACTIONS or not (thread_id == f"web:{user_id}" or is_opening_a_socket):
        raise NotAllowed("this thread, or this action, is not yours")
    if action in CHANGES and request.scope["type"] == "http":
        # Another site can make a browser send the cookie, but it cannot read it, nor make the
        # token, nor set the header.
        given = request.headers.get("x-csrf-token", "")
        if not hmac.compare_digest(given.encode(), _csrf(session).encode()):
            raise NotAllowed("the token in X-CSRF-Token is missing or wrong")
    return Caller(id=user_id)


def cookies_for(user_id: str) -> dict[str, str]:
    """Return the cookies for a user after login.

    Set both `Secure; Path=/; SameSite=Lax`, the session `HttpOnly` as well.
    """
    body = f"{user_id}|{int(time.time()) + LIFE_S}"
    session = f"{body}|{_sign('session', body)}"
    return {SESSION: session, CSRF: _csrf(session)}


def _read(session: str) -> str:
    body, _, mark = session.rpartition("|")
    user_id, _, until = body.rpartition("|")
    if (
        not hmac.compare_digest(mark.encode(), _sign("session", body).encode())
        or int(until) <= time.time()
    ):
        raise NotAuthenticated("log in first")
    return user_id


def _csrf(session: str) -> str:
    return _sign("csrf", session)


def _sign(purpose: str, text: str) -> str:
    key = os.environ["SESSION_SECRET"].encode()
    return hmac.new(key, f"{purpose}|{text}".encode(), hashlib.sha256).hexdigest()
