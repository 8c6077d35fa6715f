"""A platform's HTTP server on the loopback interface, with scripted faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from assistant_queue.testing.provider.client import Client
from assistant_queue.testing.provider.loopback import LoopbackServer, Served

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """Cut the connection instead of answering.

    Attributes:
        accept: Whether the request is carried out before.
    """

    accept: bool = True


@dataclass(frozen=True, slots=True)
class AnswerWith:
    """Answer with a status and a body of the test.

    Attributes:
        status: The HTTP status.
        body: Sent as JSON; bytes as they are.
        headers: Further headers.
        accept: Whether the request is carried out before.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    accept: bool = False


PlatformFault = LoseAnswer | AnswerWith

TOO_MANY_REQUESTS = AnswerWith(
    429,
    {
        "ok": False,
        "error_code": 429,
        "description": "Too Many Requests: retry after 1",
        "parameters": {"retry_after": 1},
    },
    {"retry-after": "1"},
)
"""A 429 with a second to wait, in Telegram's words."""
BAD_ANSWERS: tuple[PlatformFault, ...] = (
    LoseAnswer(accept=False),
    LoseAnswer(accept=True),
    AnswerWith(502),
    TOO_MANY_REQUESTS,
)
"""Faults of a platform that misbehaves: answers lost before and after the work, a bad gateway, too
many requests."""


@dataclass(frozen=True, slots=True)
class PlatformRequest:
    """A request that reached the platform.

    Attributes:
        method: The HTTP method.
        path: Without secrets.
        headers: By lower-case names.
        raw: The body.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """The body as JSON, None if it is none."""
        try:
            return json.loads(self.raw)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class PlatformAnswer:
    """Answer of a platform.

    Attributes:
        status: The HTTP status.
        body: Sent as JSON; bytes as they are.
        headers: Further headers.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class PlatformServer(Served):
    """Serves one platform over real HTTP, for tests.

    1. `start` and `stop`, or a `with` block.
    2. `fault` scripts the next requests: lost answers, refusals.
    3. `requests` has all that arrived; `wait_for` waits for something to happen.
    """

    def __init__(self) -> None:
        """Describe a server; nothing runs before `start`."""
        self.requests: list[PlatformRequest] = []
        self._faults: list[_Planned] = []
        self._misbehaviour: Callable[[PlatformRequest], PlatformFault | None] = lambda _: None
        self._changed = threading.Condition()
        self._server = LoopbackServer(self._application)

    def go_away(self) -> None:
        """Be down until `come_back`: the port is closed, and all connections are cut."""
        self.stop()

    def come_back(self) -> None:
        """Serve again at the same address; no effect on a server that serves."""
        if not self._server.is_running:
            self._server = LoopbackServer(self._application, self._server.port)
            self._server.start()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self._server.port}"

    def fault(
        self,
        action: PlatformFault,
        *,
        of: str = "",
        times: int = 1,
        when: Callable[[PlatformRequest], bool] | None = None,
    ) -> None:
        """Have the next requests fail.

        Args:
            action: What happens to them.
            of: Only requests with this in their path.
            times: How many requests.
            when: Only requests for which it returns True.
        """
        self._faults += [_Planned(action, of, when)] * times

    def clear_faults(self, action: PlatformFault | None = None) -> None:
        """Forget the faults that have not happened, or those of one kind."""
        self._faults = [one for one in self._faults if action not in (None, one.action)]

    def misbehave(
        self,
        share: float = 0.5,
        *,
        seed: int = 0,
        of: str = "",
        actions: Sequence[PlatformFault] = BAD_ANSWERS,
    ) -> None:
        """Have a share of all requests fail from now on, at random; 0 ends it.

        Args:
            share: How many of the requests fail, 0 to 1.
            seed: The same seed fails the same requests, if they come in the same order.
            of: Only requests with this in their path, such as `/send`.
            actions: One of them happens to each.
        """
        dice = random.Random(seed)  # noqa: S311 - not for secrets

        def fault_of(request: PlatformRequest) -> PlatformFault | None:
            is_bad = of in request.path and dice.random() < share
            return dice.choice(list(actions)) if is_bad else None

        self._misbehaviour = fault_of

    def wait_for(self, seen: Callable[[], T | None], timeout: float = 30.0) -> T:
        """Wait until a function of the server's state returns something true; return it.

        Raises:
            TimeoutError: It did not.
        """
        with self._changed:
            if self._changed.wait_for(lambda: bool(seen()), timeout):
                found = seen()
                if found is not None:
                    return found
        raise TimeoutError(f"not seen within {timeout:g} s; {len(self.requests)} requests arrived")

    def handle(self, request: PlatformRequest) -> PlatformAnswer:
        """Carry out a request; called on the server's loop."""
        raise NotImplementedError

    async def answer(self, request: PlatformRequest) -> PlatformAnswer:
        """Carry out a request that may wait."""
        return self.handle(request)

    def noted(self) -> None:
        """Wake `wait_for`: something has happened."""
        with self._changed:
            self._changed.notify_all()

    def _application(self, drop: Callable[[Any], None]) -> Any:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            with contextlib.suppress(asyncio.CancelledError):  # the server stops: no reader is left
                await serve(scope, receive, send)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            raw = await _read(receive)
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            request = PlatformRequest(scope["method"], scope["path"], headers, raw)
            self.requests.append(request)
            self.noted()
            client = Client(scope, receive, send, drop)
            fault = self._fault_of(request)
            answer: PlatformAnswer | None = None
            if fault is None or fault.accept:
                answer = await self.answer(request)
            self.noted()
            if isinstance(fault, LoseAnswer):
                await client.drop()
                return
            if isinstance(fault, AnswerWith):
                answer = PlatformAnswer(fault.status, fault.body, fault.headers)
            if answer is not None:
                await _send(client, answer)

        return application

    def _fault_of(self, request: PlatformRequest) -> PlatformFault | None:
        for number, planned in enumerate(self._faults):
            if planned.strikes(request):
                del self._faults[number]
                return planned.action
        return self._misbehaviour(request)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A fault of one request that is still to come."""

    action: PlatformFault
    of: str
    when: Callable[[PlatformRequest], bool] | None

    def strikes(self, request: PlatformRequest) -> bool:
        """Return whether it happens to this request."""
        return self.of in request.path and (self.when is None or self.when(request))


_NO_CONTENT = 204


async def _send(client: Client, answer: PlatformAnswer) -> None:
    is_raw = isinstance(answer.body, bytes)
    body = answer.body if is_raw else json.dumps(answer.body, ensure_ascii=False).encode()
    if answer.status == _NO_CONTENT:
        body = b""  # what followed would be taken for the next answer
    kind = "application/octet-stream" if is_raw else "application/json"
    await client.send_bytes(answer.status, body, kind, answer.headers)


async def _read(receive: Receive) -> bytes:
    parts: Sequence[bytes] = []
    while True:
        message = await receive()
        parts = [*parts, message.get("body", b"")]
        if not message.get("more_body"):
            return b"".join(parts)
