"""State that all routes share: the queue, authorization, limits, open streams."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from limits import RateLimitItem
from starlette.requests import HTTPConnection, Request

from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.client.queue_core import open_async_core
from assistant_queue.config import Config
from assistant_queue.errors import ConfigurationError
from assistant_queue.integrations.fastapi.access import Action, Authorize, Caller, ask
from assistant_queue.integrations.fastapi.frame_limits import Paces
from assistant_queue.integrations.fastapi.origins import Origins
from assistant_queue.integrations.fastapi.problems import ProblemRefusal
from assistant_queue.integrations.fastapi.rate_limits import RateLimiter, StreamGate
from assistant_queue.integrations.fastapi.request_bodies import BodyBudget
from assistant_queue.integrations.fastapi.rooms import Rooms
from assistant_queue.integrations.fastapi.settings import Settings, limits_of
from assistant_queue.integrations.fastapi.wait_estimates import WaitEstimates
from assistant_queue.store.layout import settle

T = TypeVar("T")

STARTS_WORK = frozenset(
    {
        Action.CREATE_THREAD,
        Action.SEND_MESSAGE,
        Action.EDIT_MESSAGE,
        Action.START_RUN,
        Action.ANSWER_TOOLS,
    }
)
"""Actions that `rate_limit` counts."""
SLOW_DOWN = "assistant_queue_slow_down"
"""Key in the state of a request under which `ServiceServer` has a function that slows its client
down."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Service:
    """One HTTP service over one queue.

    1. calls `authorize`, after the limits and before anything else
    2. holds the asyncio queue: the given one, or one made from the same options
    3. tracks open streams, and ends them when the server stops
    """

    def __init__(
        self,
        queue: AssistantMessageQueue | AsyncAssistantMessageQueue,
        authorize: Authorize,
        settings: Settings,
    ) -> None:
        """Connects nothing; the first request does."""
        self.queue, self._owns_queue = asyncio_queue_of(queue)
        self.authorize = authorize
        self.settings = settings
        self.origins = Origins(settings)
        self.gate = StreamGate(settings)
        self.bodies = BodyBudget(settings.max_body_bytes)
        self.paces = Paces(limits_of(settings.frame_limit, "frame_limit"))
        self.rooms = Rooms(self.queue)
        self.waits = WaitEstimates(self.queue)
        self._core = self.queue.core
        self._limiter = RateLimiter(
            self._core.store.client, lambda: self._core.namespace.keys.limits
        )
        self._rate, self._requests = (
            limits_of(settings.rate_limit),
            limits_of(settings.request_limit),
        )
        self.closing = asyncio.Event()

    async def close(self) -> None:
        """End open streams; close the queue if the service made it."""
        self.stop_streams()
        await self.rooms.close()
        if self._owns_queue:
            await self.queue.close()

    def stop_streams(self) -> None:
        """Let every stream and socket end by itself; browsers reconnect to another process."""
        self.closing.set()
        self.rooms.end_listeners()

    # --- before anything is done ------------------------------------------------------------------

    async def count(self, request: HTTPConnection) -> None:
        """Count one request of an address, before its body is read.

        Raises:
            ProblemRefusal: It exceeds `request_limit`. Nothing was done.
        """
        await self._hit(
            self._requests, "requests", f"address {self.origins.counted_address(request)}"
        )

    async def admit(self, request: HTTPConnection, action: Action, thread_id: str | None) -> Caller:
        """Authorize a request and return its caller.

        Raises:
            NotAuthenticated, NotAllowed: `authorize` refused. Nothing was done.
            ProblemRefusal: It starts work and exceeds `rate_limit`. Nothing was done.
        """
        caller = await ask(self.authorize, request, action, thread_id)
        if action in STARTS_WORK:
            await self._hit(self._rate, "messages", self.client_key(request, caller))
        return caller

    async def _hit(self, limits: list[RateLimitItem], kind: str, client_key: str) -> None:
        if not self._core.namespace.is_settled:
            await self._core.store.run(settle(self._core.namespace))
        await self._limiter.hit(limits, kind, client_key)

    def slow_down(self, request: HTTPConnection) -> None:
        """Have the server read the client's next requests slowly, unless it is a trusted proxy."""
        found = request.scope.get("state", {}).get(SLOW_DOWN)
        if (
            found is not None
            and request.client is not None
            and not self.origins.is_trusted(request.client.host)
        ):
            found()

    def slow_down_if_too_many(self, request: HTTPConnection, refusal: ProblemRefusal) -> None:
        """Slow the client down if it was refused for sending or opening too much."""
        if refusal.code == "too_many_requests":
            self.slow_down(request)

    def client_key(self, request: HTTPConnection, caller: Caller) -> str:
        """Return the key that limits count by: the caller, or the address of an anonymous one."""
        return (
            f"caller {caller.id}"
            if caller.id is not None
            else f"address {self.origins.counted_address(request)}"
        )

    def check_origin(self, request: HTTPConnection) -> None:
        """Refuse a request that another site's page sends with a person's cookies.

        Raises:
            ProblemRefusal: It comes from such a page. Nothing was done.
        """
        if not self.origins.is_own_page(request):
            raise ProblemRefusal(
                403, "foreign_origin", "This was sent by a page of another site; nothing was done."
            )

    def check_host(self, request: HTTPConnection) -> None:
        """Refuse a host that is not in `allowed_hosts`.

        Raises:
            ProblemRefusal: The host is not allowed. Nothing was done.
        """
        if not self.origins.is_known_host(request):
            raise ProblemRefusal(400, "unknown_host", "This service is not known under this name.")

    # --- while something waits --------------------------------------------------------------------

    async def until_gone(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Await long work until the client disconnects or the server stops.

        Raises:
            ProblemRefusal: One of the two came first; the work was cancelled.
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_disconnected(request))
        closing = asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait({task, gone, closing}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ProblemRefusal(
                503,
                "stopping",
                "The server stops; the message stays queued. Ask again.",
                headers={"Retry-After": "1"},
            )
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
    """Return the valid `X-Request-ID` of a request, or a new id."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def asyncio_queue_of(queue: Any) -> tuple[AsyncAssistantMessageQueue, bool]:
    """Return an asyncio queue for either class, and whether it was made here.

    Raises:
        ConfigurationError: It is an instance of neither class.
    """
    if isinstance(queue, AsyncAssistantMessageQueue):
        return queue, False
    if not isinstance(queue, AssistantMessageQueue):
        raise ConfigurationError(
            f"queue must be an AssistantMessageQueue or an AsyncAssistantMessageQueue, not {type(queue).__name__}"
        )
    return queue_of(queue.config), True


def queue_of(config: Config) -> AsyncAssistantMessageQueue:
    """Return an asyncio queue with these options, tools and callbacks included."""
    return AsyncAssistantMessageQueue(open_async_core(config))
