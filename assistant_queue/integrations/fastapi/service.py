"""What all routes share: the queue, who may do what, the limits, what is open."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from limits import RateLimitItem
from starlette.requests import HTTPConnection, Request

from assistant_queue.aio import AsyncAssistantMessageQueue
from assistant_queue.config import Config
from assistant_queue.errors import ConfigurationError
from assistant_queue.integrations.fastapi.access import Action, Authorize, Caller, ask
from assistant_queue.integrations.fastapi.bodies import BodyBudget
from assistant_queue.integrations.fastapi.limiting import RateLimiter, StreamGate
from assistant_queue.integrations.fastapi.origins import Origins
from assistant_queue.integrations.fastapi.pacing import Paces
from assistant_queue.integrations.fastapi.problems import Refusal
from assistant_queue.integrations.fastapi.rooms import Rooms
from assistant_queue.integrations.fastapi.settings import Settings, limits_of
from assistant_queue.queue import AssistantMessageQueue
from assistant_queue.store.layout import settle

T = TypeVar("T")

STARTS_WORK = frozenset({Action.CREATE_THREAD, Action.SEND_MESSAGE, Action.EDIT_MESSAGE, Action.START_RUN, Action.ANSWER_TOOLS})
"""What `rate_limit` counts."""
SLOW_DOWN = "assistant_queue_slow_down"
"""Where a server of ours has, in the state of a request, what is called if its client sends too much."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Service:
    """One HTTP service over one queue.

    1. asks `authorize`, after the limits and before anything else
    2. holds the queue's asyncio door: the one it was given, or one of the same options
    3. knows what is open, and ends it when the server stops
    """

    def __init__(self, queue: AssistantMessageQueue | AsyncAssistantMessageQueue, authorize: Authorize, settings: Settings) -> None:
        """Connects nothing; the first request does."""
        self.queue, self._owns_queue = async_door(queue)
        self.authorize, self.settings = authorize, settings
        self.origins = Origins(settings)
        self.gate = StreamGate(settings)
        self.bodies = BodyBudget(settings.max_body_bytes)
        self.paces = Paces(limits_of(settings.frame_limit, "frame_limit"))
        self.rooms = Rooms(self.queue)
        self._space = self.queue._door.space  # noqa: SLF001 - the queue's own keys
        self._limiter = RateLimiter(self.queue._store.client, lambda: self._space.keys.limits)  # noqa: SLF001 - the queue's own Redis
        self._rate, self._requests = limits_of(settings.rate_limit), limits_of(settings.request_limit)
        self.closing = asyncio.Event()

    async def close(self) -> None:
        """End what is open; close the queue's door if it is ours."""
        self.stop_streams()
        await self.rooms.close()
        if self._owns_queue:
            await self.queue.close()

    def stop_streams(self) -> None:
        """Let every stream and socket end by itself; browsers come back, to whoever serves then."""
        self.closing.set()
        self.rooms.end_listeners()

    # --- before anything is done --------------------------------------------------------------------------------------

    async def count(self, request: HTTPConnection) -> None:
        """Count one request of an address, before anything of it is read.

        Raises:
            Refusal: It is one too many. Nothing was done.
        """
        try:
            await self._hit(self._requests, "requests", f"address {self.origins.counted_address(request)}")
        except Refusal:
            self.slow_down(request)
            raise

    async def admit(self, request: HTTPConnection, action: Action, thread_id: str | None) -> Caller:
        """Return the caller, as `authorize` finds out.

        Raises:
            NotAuthenticated, NotAllowed: `authorize` said no. Nothing was done.
            Refusal: The limit of what starts work. Nothing was done.
        """
        caller = await ask(self.authorize, request, action, thread_id)
        if action in STARTS_WORK:
            await self._hit(self._rate, "messages", self.client_key(request, caller))
        return caller

    async def _hit(self, limits: list[RateLimitItem], kind: str, client_key: str) -> None:
        if not self._space.is_settled:
            await self.queue._store.run(settle(self._space))  # noqa: SLF001 - the queue's own Redis
        await self._limiter.hit(limits, kind, client_key)

    def slow_down(self, request: HTTPConnection) -> None:
        """Have the server read slowly what the client sends next, unless it is a proxy: it sends for others, too."""
        found = request.scope.get("state", {}).get(SLOW_DOWN)
        if found is not None and request.client is not None and not self.origins.is_trusted(request.client.host):
            found()

    def client_key(self, request: HTTPConnection, caller: Caller) -> str:
        """Whom limits count: the caller, or the address where nobody knows the caller."""
        return f"caller {caller.id}" if caller.id is not None else f"address {self.origins.counted_address(request)}"

    def check_origin(self, request: HTTPConnection) -> None:
        """Refuse what another site's page sends in a person's name.

        Raises:
            Refusal: It comes from a page that is not ours. Nothing was done.
        """
        if not self.origins.is_own_page(request):
            raise Refusal(403, "foreign_origin", "This was sent by a page of another site; nothing was done.")

    def check_host(self, request: HTTPConnection) -> None:
        """Refuse a name that is not ours.

        Raises:
            Refusal: The service is not known under this name. Nothing was done.
        """
        if not self.origins.is_known_host(request):
            raise Refusal(400, "unknown_host", "This service is not known under this name.")

    # --- while something waits ------------------------------------------------------------------------------------------

    async def until_gone(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Await what takes long, for as long as the client is there and the server is not stopping.

        Raises:
            Refusal: One of the two ended first; the work was cancelled.
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_disconnected(request))
        closing = asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait({task, gone, closing}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Refusal(503, "stopping", "The server stops; the message stays queued. Ask again.", headers={"Retry-After": "1"})
        finally:
            for one in (task, gone, closing):
                one.cancel()
            for one in (task, gone, closing):
                with suppress(asyncio.CancelledError, Exception):
                    await one


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def request_id_of(request: HTTPConnection) -> str:
    """The id a request came with, if it looks like one, or a new one."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def async_door(queue: Any) -> tuple[AsyncAssistantMessageQueue, bool]:
    """The asyncio door of a queue, and whether it was made here.

    Raises:
        ConfigurationError: This is no queue.
    """
    if isinstance(queue, AsyncAssistantMessageQueue):
        return queue, False
    if not isinstance(queue, AssistantMessageQueue):
        raise ConfigurationError(f"queue must be an AssistantMessageQueue or an AsyncAssistantMessageQueue, not {type(queue).__name__}")
    return door_of(queue.config), True


def door_of(config: Config) -> AsyncAssistantMessageQueue:
    """An asyncio door of these options, tools and callbacks included."""
    door = AsyncAssistantMessageQueue.__new__(AsyncAssistantMessageQueue)
    door.config, door._clock = config, None  # noqa: SLF001 - what the constructor does, with a configuration that is ready
    door._open()  # noqa: SLF001 - the same
    return door
