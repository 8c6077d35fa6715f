"""Reading a response of the Responses API: its events and how it ended. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from assistant_queue.backends.call_arguments import for_function
from assistant_queue.backends.content import Json, said, usage_of
from assistant_queue.backends.foreign_calls import judged
from assistant_queue.backends.run_failures import failure_of, refused_in_stream
from assistant_queue.backends.wire_events import Event
from assistant_queue.core.runs import ActionRequired, RunEnded, RunEvent, RunStarted, TextDelta
from assistant_queue.models import FunctionCall, ToolCall

_OPEN = frozenset({"queued", "in_progress"})
_ENDED_WELL = frozenset({"completed", "incomplete"})
_ENDED_BADLY = frozenset({"failed", "cancelled", "expired"})


def is_open(response: Json) -> bool:
    """Whether the response is still being worked on."""
    return str(response.get("status")) in _OPEN


def output_of(response: Json) -> list[Json]:
    """The items that the model made; what is no item is left out."""
    output = response.get("output")
    return [dict(item) for item in output if isinstance(item, Mapping)] if isinstance(output, list) else []


def answer_of(response: Json, items: Sequence[Json] = ()) -> ActionRequired | RunEnded:
    """How a response that a batch waits for ended: calls that no function answers, and an answer that says nothing, are no success.

    Args:
        response: A response that is not open.
        items: Output items collected from its stream, for servers whose final response has none, or none that says something.
    """
    return judged(outcome_of(response, items), output_of(response) or items)


def outcome_of(response: Json, items: Sequence[Json] = ()) -> ActionRequired | RunEnded:
    """How a response ended, in the provider's view; the arguments are those of `answer_of`."""
    output: Sequence[Json] = output_of(response) or items
    run_id, status = str(response.get("id") or ""), str(response.get("status") or "completed")
    replies, usage = replies_of(output) or replies_of(items), usage_of(response.get("usage"))
    if status not in _ENDED_WELL:
        status = status if status in _ENDED_BADLY else "failed"
        return failure_of(_error_of(response), status).ended(run_id, status, replies=replies, usage=usage)
    anchor = _id_of(output[-1]) if output else None
    calls = calls_of(output)
    if calls and status == "completed":
        return ActionRequired(run_id=run_id, calls=calls, replies=replies, usage=usage, anchor=anchor)
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, Mapping) else None
    return RunEnded(run_id=run_id, status=status, replies=replies, usage=usage, incomplete_reason=reason, anchor=anchor)


def _error_of(response: Json) -> Mapping[str, Any] | None:
    error = response.get("error")
    return error if isinstance(error, Mapping) or not error else {"message": str(error)}


def _id_of(item: Json) -> str | None:
    return None if item.get("id") is None else str(item["id"])


def replies_of(items: Sequence[Json]) -> tuple[str, ...]:
    """What the model said, one entry a message; messages without text are left out."""
    texts = (said(item.get("content")) for item in items if _is_said(item))
    return tuple(text for text in texts if text)


def calls_of(items: Sequence[Json]) -> tuple[ToolCall, ...]:
    """The functions that the model wants called, each call once."""
    calls = (call_of(item) for item in items if is_kind(item, "function_call"))
    return tuple({call.id: call for call in calls}.values())


def call_of(item: Json) -> ToolCall:
    """A `function_call` item as the flow knows it. Its `call_id` is what the output names, not its `id`."""
    arguments = item.get("arguments")
    written = json.dumps(arguments) if isinstance(arguments, Mapping | list) else str(arguments or "")
    ident = item.get("call_id") or item.get("id") or f"call_{item.get('name')}"
    return ToolCall(str(ident), FunctionCall(str(item.get("name") or ""), for_function(written)))


def is_kind(item: Json, kind: str) -> bool:
    """Whether the item is of this type; one without a type is a message."""
    return bool((item.get("type") or "message") == kind)


def _is_said(item: Json) -> bool:
    return is_kind(item, "message") and (item.get("role") or "assistant") == "assistant"


def is_asked(item: Json) -> bool:
    """Whether the item is a user's message."""
    return is_kind(item, "message") and item.get("role") == "user"


class ResponseReader:
    """The events of one response. Implements `streams.Reader`.

    Args:
        thread: Named in errors.
        run_id: Given where a known response is watched again: then nothing announces it, and what it said before is not seen.

    Attributes:
        output: What the model made, as far as the outcome was made from it.
    """

    def __init__(self, thread: str, *, run_id: str | None = None) -> None:
        self.run_id = run_id
        self.outcome: RunEvent | None = None
        self.output: Sequence[Json] = ()
        self._thread = thread
        self._is_partial = run_id is not None
        self._is_resumable = run_id is not None
        self._items: list[Json] = []
        self._parts: dict[object, list[str]] = {}

    def read(self, event: Event) -> list[RunEvent]:
        """What this event means."""
        data = event.data
        response = data if data.get("object") == "response" else data.get("response")
        found: list[RunEvent] = []
        if isinstance(response, dict):
            if self.run_id is None and response.get("id"):
                self.run_id = str(response["id"])
                self._is_resumable = bool(response.get("background"))
                found.append(RunStarted(run_id=self.run_id))
            self._end(response, event.name)
        elif event.name in {"response.output_text.delta", "response.refusal.delta"}:
            found.append(self._delta(data))
        elif event.name == "response.output_item.done" and isinstance(data.get("item"), dict):
            self._items.append(data["item"])
        elif event.name == "error" or isinstance(data.get("error"), Mapping):
            self._fail(data)
        return found

    def _delta(self, data: Json) -> TextDelta:
        text = str(data.get("delta") or "")
        item = data.get("item_id") or data.get("output_index")
        self._parts.setdefault(item, []).append(text)
        part = list(self._parts).index(item)
        cursor = data.get("sequence_number") if self._is_resumable else None
        return TextDelta(text=text, cursor=cursor, part=part, item=None if item is None else str(item))

    def _end(self, response: Json, name: str) -> None:
        # What the event says counts where the response in it still shows an earlier status, or none.
        told, shown = name.removeprefix("response."), response.get("status")
        status = shown if isinstance(shown, str) and shown not in _OPEN else told
        if status not in _ENDED_WELL | _ENDED_BADLY:
            return
        if self._is_partial and not output_of(response):
            return
        self.output = output_of(response) or self._items
        self.outcome = answer_of({**response, "id": self.run_id, "status": status}, self._heard())

    def _heard(self) -> list[Json]:
        """The items as the stream told them; those of a stream that was not heard from its beginning say nothing."""
        if self._is_partial:
            return []
        heard = [{"type": "message", "content": "".join(part)} for part in self._parts.values()]
        return self._items if replies_of(self._items) or not replies_of(heard) else [*self._items, *heard]

    def _fail(self, data: Json) -> None:
        error = data["error"] if isinstance(data.get("error"), Mapping) else data
        if self.run_id is None:
            raise refused_in_stream(error, thread=self._thread)
        self.outcome = outcome_of({"id": self.run_id, "status": "failed", "error": error})
