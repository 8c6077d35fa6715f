"""Who may do what: the actions that `authorize` is asked about, and what it answers with."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from assistant_queue.errors import ConfigurationError, NotAllowed, NotAuthenticated

Sees = Collection[str] | Callable[[Any], bool]
"""Which events somebody may see: their types, or a function of the event."""


class Action(str, Enum):
    """What somebody wants to do; `authorize` is asked about it before anything else happens.

    `INSTRUCT` is asked after `SEND_MESSAGE`, where a message brings its own instructions: they take the place of the operator's.
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
    TYPE = "type"
    START_RUN = "start_run"
    READ_RUN = "read_run"
    CANCEL_RUN = "cancel_run"
    ANSWER_TOOLS = "answer_tools"
    PAUSE = "pause"
    RESUME = "resume"
    READ_FAILED = "read_failed"
    RETRY_FAILED = "retry_failed"
    DISCARD_FAILED = "discard_failed"
    READ_STATUS = "read_status"
    READ_HEALTH = "read_health"


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
    }
)
"""What a person in a conversation does; everything else is for your own programs and your staff."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is asking, as `authorize` found out.

    Attributes:
        id: Stable for one client: limits count by it. None: by the client's address.
        name: The author of this caller's messages and the name others see, whatever the request says; None: the request may say one.
        sees: The events of a thread that this caller may see: a collection of their types, or a function that says so for one
            event; None for all. It does not change within one stream or socket, except where `authorize` is asked again.
        expires_at: Aware; streams end then at the latest, and are authorized anew when the client comes back.
    """

    id: str | None = None
    name: str | None = None
    sees: Sees | None = None
    expires_at: datetime | None = None

    def may_see(self, event: Any) -> bool:
        """Whether this caller may be told of an event."""
        if self.sees is None:
            return True
        return self.sees(event) if callable(self.sees) else event.type in self.sees

    @property
    def is_expired(self) -> bool:
        """What proved who is asking is not valid any more."""
        return self.expires_at is not None and self.expires_at <= datetime.now(timezone.utc)


Authorize = Callable[[HTTPConnection, Action, str | None], Caller | bool | Awaitable[Caller | bool | None] | None]
"""`authorize(request, action, thread_id)`: a `Caller`, or True for anybody; False or None, or `NotAllowed`, for no;
`NotAuthenticated` where it is not known who is asking. Sync functions run on a thread pool. `thread_id` is None for what concerns no
thread. `request` is the request, or the WebSocket: both have `headers`, `cookies`, `query_params` and `client`."""

ANYBODY = Caller()


async def allow_all(request: HTTPConnection, action: Action, thread_id: str | None) -> Caller:
    """Everybody may do everything. For a service that only you can reach."""
    del request, action, thread_id
    return ANYBODY


def check_authorize(authorize: Any) -> Authorize:
    """The function, if it is one.

    Raises:
        ConfigurationError: None was given, or something that cannot be called.
    """
    if authorize is None:
        raise ConfigurationError(
            "authorize is missing: give a function (request, action, thread_id) -> Caller that says who may do what, or say "
            "authorize=allow_all if everybody who can reach this service may read, write and delete every thread"
        )
    if not callable(authorize):
        raise ConfigurationError(f"authorize must be a function (request, action, thread_id) -> Caller, not {type(authorize).__name__}")
    return authorize  # type: ignore[no-any-return]  # what it returns is looked at each time


async def ask(authorize: Authorize, request: HTTPConnection, action: Action, thread_id: str | None) -> Caller:
    """Who is asking.

    Raises:
        NotAuthenticated, NotAllowed: The function said no.
    """
    if _is_async(authorize):
        found = authorize(request, action, thread_id)
    else:
        found = await run_in_threadpool(authorize, request, action, thread_id)
    if inspect.isawaitable(found):
        found = await found
    if isinstance(found, Caller):
        if found.is_expired:
            raise NotAuthenticated("what proved who you are has expired")
        return found
    if found is True:
        return ANYBODY
    raise NotAllowed("this is not for you")


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - an object may be one, too
