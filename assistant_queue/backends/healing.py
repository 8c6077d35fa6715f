"""A conversation with calls that an earlier batch left open refuses every request until they have outputs."""

from __future__ import annotations

from assistant_queue.backends.content import Json
from assistant_queue.backends.conversation_items import UNANSWERED, output_item
from assistant_queue.backends.conversation_log import ConversationLog
from assistant_queue.backends.refusals import unanswered_call, unknown_call
from assistant_queue.core.runs import RunRequest
from assistant_queue.errors import RequestRefused


class Healing:
    """The input of one request, as its refusals change it."""

    def __init__(self, log: ConversationLog, request: RunRequest) -> None:
        self._log = log
        self._request = request
        self._has_healed = False

    async def input_after(self, refusal: RequestRefused, items: list[Json]) -> list[Json] | None:
        """The input to send instead; None if open calls were not the reason, or nothing can be done about it any more."""
        unknown, unanswered = unknown_call(refusal), unanswered_call(refusal)
        if unknown in self._request.open_calls:  # it was never stored: nothing to answer
            return [item for item in items if item.get("call_id") != unknown]
        if self._has_healed or unanswered is None:
            return None
        self._has_healed = True
        # First error outputs for every open call that this request does not answer itself.
        answered = {item.get("call_id") for item in items}
        open_calls = dict.fromkeys([*await self._log.open_calls(self._request), unanswered])
        return [*(output_item(call_id, UNANSWERED) for call_id in open_calls if call_id not in answered), *items]
