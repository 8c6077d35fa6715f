"""Asking again who listens, while a stream or a socket is open."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection
from typing_extensions import Self

from assistant_queue.integrations.fastapi.access import Action, ask
from assistant_queue.integrations.fastapi.listener import Listener
from assistant_queue.integrations.fastapi.problems import Refusal, refusal_of

if TYPE_CHECKING:
    from assistant_queue.integrations.fastapi.service import Service


class Watch:
    """Marks a listener for another look: every `recheck_access` seconds, and when what proved who it is expires."""

    def __init__(self, service: Service, request: HTTPConnection, thread_id: str, listener: Listener) -> None:
        self._service, self._request, self._thread_id, self._listener = service, request, thread_id, listener
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._set()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set(self) -> None:
        delay, expires_at = self._service.settings.recheck_access, self._listener.caller.expires_at
        if expires_at is not None:
            delay = min(delay, max(0.0, (expires_at - datetime.now(timezone.utc)).total_seconds()))
        self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        self._listener.must_check = True
        self._listener.wake()

    async def refusal(self) -> Refusal | None:
        """Why the listener may not go on, if it is time to ask and the answer is no."""
        if not self._listener.must_check:
            return None
        self._listener.must_check = False
        try:
            self._listener.caller = await ask(self._service.authorize, self._request, Action.LISTEN, self._thread_id)
        except Exception as error:  # noqa: BLE001 - where it cannot be found out, the answer is no
            return refusal_of(error, "-")
        self._set()
        return None
