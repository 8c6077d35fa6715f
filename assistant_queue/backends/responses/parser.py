"""Parse responses of the Responses API: their events and their outcome. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from assistant_queue.backends.openai.call_arguments import for_function
from assistant_queue.backends.openai.content import Json, object_in, said
from assistant_queue.backends.openai.foreign_calls import judged
from assistant_queue.backends.openai.items import is_kind
from assistant_queue.backends.openai.run_failures import failure_of, refused_in_stream
from assistant_queue.backends.openai.token_usage import name_of, usage_of
from assistant_queue.backends.openai.wire_events import WireEvent
from assistant_queue.core.runs import ActionRequired, RunAccepted, RunEnded, RunEvent, TextChunk
from assistant_queue.models import FunctionCall, ToolCall

_OPEN = frozenset({"queued", "in_progress"})
_ENDED_WELL = frozenset({"completed", "incomplete"})
_ENDED_BADLY = frozenset({"failed", "cancelled", "expired"})


def is_open(response: Json) -> bool:
    """Return whether the response is still in progress."""
    return str(response.get("status")) in _OPEN


def output_of(response: Json) -> list[Json]:
    """Return the output items; entries that are not objects are left out."""
    output = response.get("output")
    return (
        [dict(item) for item in output if isinstance(item, Mapping)]
        if isinstance(output, list)
        else []
    )


def answer_of(response: Json, items: Sequence[Json] = ()) -> ActionRequired | RunEnded:
    """Return the outcome of a response that a batch waits for.

    Calls that no function answers, and an answer without content, count as failures.

    Args:
        response: A response that is not open.
        items: Output items collected from its stream, for servers that send a final response
            without items, or with empty ones.
    """
    return judged(outcome_of(response, items), output_of(response) or items)


def outcome_of(response: Json, items: Sequence[Json] = ()) -> ActionRequired | RunEnded:
    """Return the outcome in the provider's view; the arguments are those of `answer_of`."""
    output: Sequence[Json] = output_of(response) or items
    run_id, status = str(response.get("id") or ""), str(response.get("status") or "completed")
    spoken = output if replies_of(output) else items
    replies = replies_of(spoken)
    shown = ids_of_replies(spoken)
    model = name_of(response.get("model"))
    usage = usage_of(
        response.get("usage"),
        model=model,
        service_tier=response.get("service_tier"),
    )
    if status not in _ENDED_WELL:
        status = status if status in _ENDED_BADLY else "failed"
        return failure_of(_error_of(response), status).ended(
            run_id, status, replies=replies, usage=usage
        )
    anchor = _id_of(output[-1]) if output else None
    calls = calls_of(output)
    if calls and status == "completed":
        return ActionRequired(
            run_id=run_id, calls=calls, replies=replies, usage=usage, anchor=anchor, shown=shown
        )
    reason = name_of(object_in(response.get("incomplete_details")).get("reason"))
    return RunEnded(
        run_id=run_id,
        status=status,
        replies=replies,
        usage=usage,
        incomplete_reason=reason,
        anchor=anchor,
        model=model,
        shown=shown,
    )


def _error_of(response: Json) -> Mapping[str, Any] | None:
    error = response.get("error")
    return error if isinstance(error, Mapping) or not error else {"message": str(error)}


def _id_of(item: Json) -> str | None:
    return None if item.get("id") is None else str(item["id"])


def replies_of(items: Sequence[Json]) -> tuple[str, ...]:
    """Return the assistant's texts, one per message; messages without text are left out."""
    texts = (said(item.get("content")) for item in items if _is_said(item))
    return tuple(text for text in texts if text)


def ids_of_replies(items: Sequence[Json]) -> tuple[str, ...]:
    """Return the ids of the assistant's messages; those without one are left out."""
    return tuple(str(item["id"]) for item in items if _is_said(item) and item.get("id"))


def calls_of(items: Sequence[Json]) -> tuple[ToolCall, ...]:
    """Return the function calls, each call once."""
    calls = (call_of(item) for item in items if is_kind(item, "function_call"))
    return tuple({call.id: call for call in calls}.values())


def call_of(item: Json) -> ToolCall:
    """Convert a `function_call` item.

    The output names its `call_id`, not its `id`.
    """
    arguments = item.get("arguments")
    written = (
        json.dumps(arguments) if isinstance(arguments, Mapping | list) else str(arguments or "")
    )
    ident = item.get("call_id") or item.get("id") or f"call_{item.get('name')}"
    return ToolCall(str(ident), FunctionCall(str(item.get("name") or ""), for_function(written)))


def _is_said(item: Json) -> bool:
    return is_kind(item, "message") and (item.get("role") or "assistant") == "assistant"


class ResponseReader:
    """Read the events of one response. Implements `streams.Reader`.

    Args:
        thread: Named in errors.
        run_id: Given when a known response is watched again: no event announces it, and earlier
            text is not seen.

    Attributes:
        output: The output items that the outcome was built from.
    """

    def __init__(self, thread: str, *, run_id: str | None = None) -> None:
        self.run_id = run_id
        self.outcome: RunEvent | None = None
        self.output: Sequence[Json] = ()
        self._thread = thread
        self._is_partial = run_id is not None
        self._is_resumable = run_id is not None
        self._items: list[Json] = []
        self._parts: dict[str | None, list[str]] = {}

    def read(self, event: WireEvent) -> list[RunEvent]:
        """Convert one event."""
        data = event.data
        response = data if data.get("object") == "response" else data.get("response")
        found: list[RunEvent] = []
        if isinstance(response, dict):
            if self.run_id is None and response.get("id"):
                self.run_id = str(response["id"])
                self._is_resumable = bool(response.get("background"))
                found.append(RunAccepted(run_id=self.run_id))
            self._end(response, event.name)
        elif event.name in {"response.output_text.delta", "response.refusal.delta"}:
            found.append(self._delta(data))
        elif event.name == "response.output_item.done" and isinstance(data.get("item"), dict):
            self._items.append(data["item"])
        elif event.name == "error" or isinstance(data.get("error"), Mapping):
            self._fail(data)
        return found

    def _delta(self, data: Json) -> TextChunk:
        text = str(data.get("delta") or "")
        named = data.get("item_id") or data.get("output_index")
        item = None if named is None else str(named)
        self._parts.setdefault(item, []).append(text)
        part = list(self._parts).index(item)
        number = data.get("sequence_number") if self._is_resumable else None
        cursor = number if isinstance(number, int) else None
        return TextChunk(text=text, cursor=cursor, part=part, item=item)

    def _end(self, response: Json, name: str) -> None:
        # The event's name counts if the response in it shows an earlier status, or none.
        shown = response.get("status")
        named = name.removeprefix("response.")
        status = shown if isinstance(shown, str) and shown not in _OPEN else named
        if status not in _ENDED_WELL | _ENDED_BADLY:
            return
        if self._is_partial and not output_of(response):
            return
        self.output = output_of(response) or self._items
        self.outcome = answer_of(
            {**response, "id": self.run_id, "status": status}, self._collected()
        )

    def _collected(self) -> list[Json]:
        """Return the items collected from the stream.

        None if the stream was not read from its beginning.
        """
        if self._is_partial:
            return []
        messages = [{"type": "message", "content": "".join(part)} for part in self._parts.values()]
        if replies_of(self._items) or not replies_of(messages):
            return self._items
        return [*self._items, *messages]

    def _fail(self, data: Json) -> None:
        error = data["error"] if isinstance(data.get("error"), Mapping) else data
        if self.run_id is None:
            raise refused_in_stream(error, thread=self._thread)
        self.outcome = outcome_of({"id": self.run_id, "status": "failed", "error": error})
