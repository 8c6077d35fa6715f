"""Repeated authorization of listeners while a stream or socket is open."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from starlette.requests import HTTPConnection

from assistant_queue.integrations.fastapi.access import Action, ask
from assistant_queue.integrations.fastapi.listener import Listener
from assistant_queue.integrations.fastapi.problems import ProblemRefusal, refusal_of
from assistant_queue.store.ops.event_log import ALL_THREADS

if TYPE_CHECKING:
    from assistant_queue.integrations.fastapi.service import Service


class Reauthorization:
    """Marks a listener every `recheck_access` seconds and when its caller expires."""

    def __init__(
        self, service: Service, request: HTTPConnection, thread_id: str, listener: Listener
    ) -> None:
        """`thread_id` is `ALL_THREADS` for a listener of the feed."""
        self._service = service
        self._request = request
        self._thread_id = thread_id
        self._listener = listener
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._set()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set(self) -> None:
        delay = self._service.settings.recheck_access
        expires_at = self._listener.caller.expires_at
        if expires_at is not None:
            delay = min(delay, max(0.0, (expires_at - datetime.now(UTC)).total_seconds()))
        self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        self._listener.must_check = True
        self._listener.wake()

    async def refusal(self) -> ProblemRefusal | None:
        """Authorize the listener again if that is due; return the refusal, if any."""
        if not self._listener.must_check:
            return None
        self._listener.must_check = False
        try:
            self._listener.caller = await ask(
                self._service.authorize,
                self._request,
                Action.FEED if self._thread_id == ALL_THREADS else Action.LISTEN,
                self._thread_id or None,
            )
        except Exception as error:  # noqa: BLE001 - a failure of `authorize` refuses
            return refusal_of(error, "-")
        self._set()
        return None
