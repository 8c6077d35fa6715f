"""Watch a response in the foreground that none of our streams reads any more, and tell when no process works on it either.

A server that was restarted, or whose reader died, may show such a response as `in_progress` for ever. Nothing says so; what can be had is
evidence. A response counts as left if all of it holds:

1. it has not changed for `stream_idle_timeout`
2. its cancelling is refused: the server has no work that it could stop. One that is cancelled after all has ended, which is as good.
3. its conversation is not locked: a provider that locks conversations does so for as long as it works on them

A left response is a `RunVanished`. That alone sends nothing again: after the grace the conversation is read, and only a batch that is
proven to be absent is sent, to a conversation that may refuse it as locked. What remains is a server without locks that goes on, unseen,
for longer than all of that.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Literal

import anyio

from assistant_queue.backends.response_reader import is_open
from assistant_queue.backends.streams import CANCEL_S, Call, Json, ended, fetch
from assistant_queue.errors import BackendError, ConversationBusy, RunVanished

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LAST_PAUSE_S, _GROWTH = 0.05, 1.0, 1.5
"""Between two looks. Chosen: as in `streams.ended`."""

_SAYS_NOTHING = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)
"""Refusals that are about the client or the moment. Every other 4xx is about the response: OpenAI refuses to cancel one that is not in the
background with 400, OGX 1.5 with 409, and one that is not known any more is a 404."""

_Answer = Literal["done", "refused", "locked", "nothing"]


class ForegroundWatch:
    """Looks after one response until it has ended or is known to be left."""

    def __init__(self, read: Callable[[], Awaitable[Json]], *, cancel: Call, touch: Call, idle_s: float, thread: str, run_id: str) -> None:
        """Set up, without a request.

        Args:
            read: Reads the response again.
            cancel: The wish that it ends.
            touch: A change of its conversation that changes nothing: refused as locked while a locking provider works on it.
            idle_s: Seconds without a change after which evidence is looked for.
            thread: Named in errors.
            run_id: The same.
        """
        self._read = read
        self._cancel, self._touch = cancel, touch
        self._idle_s = idle_s
        self._thread, self._run_id = thread, run_id

    async def until_it_ends(self, response: Json) -> Json:
        """The response as it is when it has ended.

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
            elif cancelled == "refused" and is_open(response) and await self._answer_to(self._touch) in {"done", "refused"}:
                _log.warning("thread %r: response %s is shown as %s and is left", self._thread, self._run_id, response.get("status"))
                raise RunVanished(
                    f"Response {self._run_id!r} of thread {self._thread!r} has been {response.get('status')!r} without a change for "
                    f"{self._idle_s:g} s and cannot be cancelled: no process works on it. The conversation is asked what is left of it."
                )

    async def _while_it_changes(self, response: Json) -> Json:
        pause, unchanged_s = _FIRST_PAUSE_S, 0.0
        while is_open(response) and unchanged_s < self._idle_s:
            await anyio.sleep(pause)
            seen = await self._read()
            unchanged_s = unchanged_s + pause if seen == response else 0.0
            response, pause = seen, min(pause * _GROWTH, _LAST_PAUSE_S)
        return response

    async def _answer_to(self, call: Call) -> _Answer:
        try:
            await fetch(call, thread=self._thread)
        except ConversationBusy:
            return "locked"
        except BackendError as error:
            status = error.status_code or HTTPStatus.INTERNAL_SERVER_ERROR
            is_about_it = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _SAYS_NOTHING
            return "refused" if is_about_it else "nothing"
        return "done"
