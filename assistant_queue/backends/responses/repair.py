"""Repair conversations: refuse open calls, remove items without their counterparts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus

from assistant_queue.backends.openai.content import Json
from assistant_queue.backends.openai.foreign_calls import (
    UNANSWERED,
    UNSUPPORTED,
    call_id_of,
    is_answer,
    refusals_of,
)
from assistant_queue.backends.openai.refused_fields import (
    Orphan,
    orphaned_item,
    unanswered_call,
    unknown_call,
)
from assistant_queue.backends.openai.streams import fetch
from assistant_queue.backends.responses.conversation_items import output_item
from assistant_queue.backends.responses.conversation_log import ConversationLog
from assistant_queue.backends.responses.requests import ResponsesCalls
from assistant_queue.core.runs import RunEnded, RunRequest
from assistant_queue.errors import BackendError, RequestRefused

_log = logging.getLogger(__name__)

MOST_REMOVED = 50
"""Items removed for one request. Chosen: each costs a request, and a conversation with more orphans
is not worth repairing."""

_ITEMS_A_CALL = 20
"""Source: the provider's published API description: `items.create` takes no more."""


class Repairer:
    """Repair a conversation that would refuse every batch as it is."""

    def __init__(self, calls: ResponsesCalls, log: ConversationLog) -> None:
        self._calls = calls
        self._conversations = log

    def begin(self, request: RunRequest) -> RequestRepair:
        """Start to repair what one request is refused for."""
        return RequestRepair(request, self._calls, self._conversations)

    async def give_up_calls(
        self, request: RunRequest, ended: RunEnded, output: Sequence[Json]
    ) -> None:
        """Refuse the calls of a response, if it ended with one that cannot be answered."""
        if ended.error is None or ended.error.code != UNSUPPORTED:
            return
        refusals = refusals_of(output)
        thread = request.batch.thread_id
        for start in range(0, len(refusals), _ITEMS_A_CALL):
            call = self._calls.add_items(
                request.conversation_id, refusals[start : start + _ITEMS_A_CALL]
            )
            try:
                await fetch(call, thread=thread)
            except BackendError as error:
                _log.warning(
                    "thread %r: open calls could not be refused; the next batch has to: %s",
                    thread,
                    error,
                )
                return


class RequestRepair:
    """Determine the input to send after each refusal of one request.

    1. leaves out an output for a call that the conversation does not hold
    2. refuses calls that were left open, before the input, once
    3. deletes an item without its counterpart, and with a call its output
    """

    def __init__(self, request: RunRequest, calls: ResponsesCalls, log: ConversationLog) -> None:
        self._request = request
        self._calls = calls
        self._conversations = log
        self._has_healed = False
        self._removed: list[Json] = []

    async def input_after(self, refusal: RequestRefused, items: list[Json]) -> list[Json] | None:
        """Return the input to send now, None if this refusal cannot be repaired."""
        unknown = unknown_call(refusal)
        unanswered = unanswered_call(refusal)
        orphan = orphaned_item(refusal)
        if unknown is not None and unknown in {
            *self._request.open_calls,
            *map(call_id_of, self._removed),
        }:
            # It was never stored, or was removed: there is nothing to answer.
            return [item for item in items if item.get("call_id") != unknown] or None
        if unanswered is not None and not self._has_healed:
            self._has_healed = True
            return await self._healed(items, unanswered)
        if (
            orphan is not None
            and len(self._removed) < MOST_REMOVED
            and orphan.id not in {item["id"] for item in self._removed}
        ):
            removed = await self._remove(orphan)
            self._removed += removed
            return items if removed else None
        return None

    async def _healed(self, items: list[Json], named: str) -> list[Json]:
        """Put refusals of all open calls, unless the input answers them, before the input.

        `named` is the call in the provider's refusal.
        """
        answered = {call_id_of(item) for item in items}
        refusals = {
            call_id_of(refusal): refusal
            for refusal in refusals_of(await self._conversations.items(self._request))
        }
        refusals.setdefault(named, output_item(named, UNANSWERED))
        return [
            *(refusal for call_id, refusal in refusals.items() if call_id not in answered),
            *items,
        ]

    async def _remove(self, orphan: Orphan) -> list[Json]:
        """Delete the item, and return the deleted items.

        None are returned if the provider refuses to delete one.
        """
        removed: list[Json] = [{"id": orphan.id, "type": orphan.kind}]
        if orphan.kind.endswith("_call"):
            listed = await self._conversations.items(self._request)
            calls = {call_id_of(item) for item in listed if str(item.get("id")) == orphan.id}
            removed = [{**removed[0], "call_id": next(iter(calls), orphan.id)}]
            removed += [item for item in listed if is_answer(item) and call_id_of(item) in calls]
        thread = self._request.batch.thread_id
        for item in removed:
            try:
                await fetch(
                    self._calls.delete_item(self._request.conversation_id, str(item["id"])),
                    thread=thread,
                )
            except BackendError as error:
                if error.status_code != HTTPStatus.NOT_FOUND:  # else it is gone already
                    _log.warning(
                        "thread %r: item %s could not be removed: %s", thread, item["id"], error
                    )
                    return []
            _log.warning(
                "thread %r: removed item %s (%s): what it belongs to is missing",
                thread,
                item["id"],
                item.get("type"),
            )
        return removed
