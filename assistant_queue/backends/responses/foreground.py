"""Watch a foreground response without a stream, and detect that it was abandoned.

A server that was restarted, or that lost its reader, may show such a response as `in_progress` for
ever. No field says so; there is only evidence. A response counts as abandoned if all of these hold:

1. it has not changed for `stream_idle_timeout`
2. the server refuses to cancel it: there is no work to stop. If the server cancels it, it has
   ended, which is as good.
3. its conversation is not locked: a provider that locks conversations does so as long as it works
   on them

An abandoned response raises `RunVanished`. That alone sends nothing again: after the grace period
the conversation is read, and only a batch that is proven to be absent is sent, to a conversation
that may refuse it as locked. One risk remains: a server without locks that continues unseen for
longer than all of that.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Literal

import anyio

from assistant_queue.backends.openai.streams import CANCEL_S, Call, Json, ended, fetch
from assistant_queue.backends.responses.parser import is_open
from assistant_queue.errors import BackendError, ConversationBusy, RunVanished

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 1.0
_GROWTH = 1.5
"""Pauses between two reads. Chosen: as in `streams.ended`, to poll one server alike."""

_SAYS_NOTHING = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
"""Refusals that concern the client or the moment. Every other 4xx concerns the response: OpenAI
refuses to cancel a foreground response with 400, OGX 1.5 with 409, and an unknown one is a 404."""

_Answer = Literal["done", "refused", "locked", "nothing"]


class ForegroundWatch:
    """Watch one response until it has ended or is known to be abandoned."""

    def __init__(
        self,
        read: Callable[[], Awaitable[Json]],
        *,
        cancel: Call,
        touch: Call,
        idle_s: float,
        thread: str,
        run_id: str,
    ) -> None:
        """Set up, without a request.

        Args:
            read: Reads the response again.
            cancel: Cancels it.
            touch: Updates its conversation without a change: refused as locked while a locking
                provider works on it.
            idle_s: Seconds without a change before evidence is collected.
            thread: Named in errors.
            run_id: Named in errors.
        """
        self._read = read
        self._cancel = cancel
        self._touch = touch
        self._idle_s = idle_s
        self._thread = thread
        self._run_id = run_id

    async def until_it_ends(self, response: Json) -> Json:
        """Return the response after its end.

        Raises:
            RunVanished: The provider does not know it any more, or no process works on it.
        """
        while True:
            response = await self._while_it_changes(response)
            if not is_open(response):
                return response
            cancelled = await self._answer_to(self._cancel)
            response = await self._read()
            if cancelled == "done":
                response = await ended(response, self._read, is_open, within_s=CANCEL_S)
            elif (
                cancelled == "refused"
                and is_open(response)
                and await self._answer_to(self._touch) in {"done", "refused"}
            ):
                _log.warning(
                    "thread %r: response %s is shown as %s and was abandoned",
                    self._thread,
                    self._run_id,
                    response.get("status"),
                )
                raise RunVanished(
                    f"Response {self._run_id!r} of thread {self._thread!r} has been "
                    f"{response.get('status')!r} without a change for {self._idle_s:g} s and "
                    "cannot be cancelled: no process works on it. Its conversation is read next."
                )

    async def _while_it_changes(self, response: Json) -> Json:
        pause = _FIRST_PAUSE_S
        unchanged_s = 0.0
        while is_open(response) and unchanged_s < self._idle_s:
            await anyio.sleep(pause)
            seen = await self._read()
            unchanged_s = unchanged_s + pause if seen == response else 0.0
            response = seen
            pause = min(pause * _GROWTH, _LAST_PAUSE_S)
        return response

    async def _answer_to(self, call: Call) -> _Answer:
        try:
            await fetch(call, thread=self._thread)
        except ConversationBusy:
            return "locked"
        except BackendError as error:
            status = error.status_code or HTTPStatus.INTERNAL_SERVER_ERROR
            concerns_response = (
                HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
                and status not in _SAYS_NOTHING
            )
            return "refused" if concerns_response else "nothing"
        return "done"
