"""Authorization: the actions that `authorize` decides about, and the `Caller` it returns."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from assistant_queue.errors import ConfigurationError, NotAllowed, NotAuthenticated
from assistant_queue.user_code.functions import is_async

Sees = Collection[str] | Callable[[Any], bool]
"""The events that a caller may see: a collection of types, or a predicate of the event."""


class Action(StrEnum):
    """An operation that a request asks for; `authorize` is called with it before it is performed.

    `INSTRUCT` follows `SEND_MESSAGE` if a message has its own instructions: these replace the
    operator's. The operations page needs `OPERATE_READ`, and `OPERATE_CHANGE` for its buttons.
    """

    CREATE_THREAD = "create_thread"
    READ_THREAD = "read_thread"
    FORGET_THREAD = "forget_thread"
    SEND_MESSAGE = "send_message"
    INSTRUCT = "instruct"
    READ_MESSAGE = "read_message"
    EDIT_MESSAGE = "edit_message"
    CANCEL_MESSAGE = "cancel_message"
    READ_HISTORY = "read_history"
    LISTEN = "listen"
    FEED = "feed"
    TYPE = "type"
    SAY = "say"
    START_RUN = "start_run"
    READ_RUN = "read_run"
    CANCEL_RUN = "cancel_run"
    ANSWER_TOOLS = "answer_tools"
    PAUSE = "pause"
    RESUME = "resume"
    FLUSH = "flush"
    STOP = "stop"
    TAKE_OVER = "take_over"
    HAND_BACK = "hand_back"
    PROMOTE = "promote"
    READ_APPROVALS = "read_approvals"
    LIST_APPROVALS = "list_approvals"
    APPROVE = "approve"
    DENY = "deny"
    ANSWER_CALL = "answer_call"
    READ_FAILED = "read_failed"
    RETRY_FAILED = "retry_failed"
    DISCARD_FAILED = "discard_failed"
    READ_STATUS = "read_status"
    LIST_THREADS = "list_threads"
    EXPLAIN = "explain"
    READ_TIMELINE = "read_timeline"
    READ_METRICS = "read_metrics"
    READ_HEALTH = "read_health"
    OPERATE_READ = "operate_read"
    OPERATE_CHANGE = "operate_change"


CHAT_ACTIONS = frozenset(
    {
        Action.READ_THREAD,
        Action.SEND_MESSAGE,
        Action.READ_MESSAGE,
        Action.EDIT_MESSAGE,
        Action.CANCEL_MESSAGE,
        Action.READ_HISTORY,
        Action.LISTEN,
        Action.TYPE,
        Action.STOP,
        Action.PROMOTE,
    }
)
"""Actions of a person in a conversation; all others are for your own programs and operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The identity and permissions of a client, as returned by `authorize`.

    Attributes:
        id: Stable for one client: limits count by it. None: by the client's address.
        name: The author of this caller's messages and the name that other clients see, whatever the
            request says; None: the request may give one.
        tenant: The tenant of this caller's messages, whatever the request says; None: the request
            may give one.
        sees: The events, of a thread or of the feed, that this caller may see: a collection of their types, or a
            predicate of one event; None for all. It does not change within one stream or socket
            until `authorize` is called again.
        expires_at: Aware; streams end at this time at the latest, and are authorized again when the
            client reconnects.
    """

    id: str | None = None
    name: str | None = None
    tenant: str | None = None
    sees: Sees | None = None
    expires_at: datetime | None = None

    def may_see(self, event: Any) -> bool:
        """Return whether this caller may see an event."""
        if self.sees is None:
            return True
        return self.sees(event) if callable(self.sees) else event.type in self.sees

    @property
    def is_expired(self) -> bool:
        """Whether the credentials have expired."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


Authorize = Callable[
    [HTTPConnection, Action, str | None], Caller | bool | Awaitable[Caller | bool | None] | None
]
"""`authorize(request, action, thread_id)` returns a `Caller`, or True for an anonymous one.

False, None or `NotAllowed` refuses; `NotAuthenticated` refuses an unknown client. Sync functions
run on a thread pool. `thread_id` is None for actions that concern no thread. `request` is the
request or the WebSocket: both have `headers`, `cookies`, `query_params` and `client`."""

ANONYMOUS = Caller()


async def allow_all(request: HTTPConnection, action: Action, thread_id: str | None) -> Caller:
    """Allow every action to every client, for a service that only you can reach."""
    del request, action, thread_id
    return ANONYMOUS


def check_authorize(authorize: Any) -> Authorize:
    """Return the function, if it can be called.

    Raises:
        ConfigurationError: It is missing, or cannot be called.
    """
    if authorize is None:
        raise ConfigurationError(
            "authorize is missing: expected a function (request, action, thread_id) -> Caller; "
            "authorize=allow_all lets every client that reaches this service read, write and "
            "delete every thread"
        )
    if not callable(authorize):
        raise ConfigurationError(
            "Invalid authorize: expected a function (request, action, thread_id) -> Caller, "
            f"not {type(authorize).__name__}"
        )
    return authorize  # type: ignore[no-any-return]  # its result is checked at each call


async def ask(
    authorize: Authorize, request: HTTPConnection, action: Action, thread_id: str | None
) -> Caller:
    """Call `authorize` and return the caller.

    Raises:
        NotAuthenticated, NotAllowed: The function refused, or the credentials have expired.
    """
    if is_async(authorize):
        found = authorize(request, action, thread_id)
    else:
        found = await run_in_threadpool(authorize, request, action, thread_id)
    if inspect.isawaitable(found):
        found = await found
    if isinstance(found, Caller):
        if found.is_expired:
            raise NotAuthenticated("The credentials have expired: authenticate again.")
        return found
    if found is True:
        return ANONYMOUS
    raise NotAllowed("The function `authorize` does not allow this.")
