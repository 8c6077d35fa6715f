"""Reading a run of the Assistants protocol: its events, its objects, its messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from assistant_queue.backends.call_arguments import for_function
from assistant_queue.backends.content import Json, said, text_of, usage_of
from assistant_queue.backends.run_failures import failure_of, refused_in_stream
from assistant_queue.backends.wire_events import Event
from assistant_queue.core.runs import ActionRequired, RunEnded, RunEvent, RunStarted, TextDelta
from assistant_queue.models import FunctionCall, ToolCall

_WAITING = "requires_action"

_ENDED_WELL = frozenset({"completed", "incomplete"})
_WORKING = frozenset({"queued", "in_progress"})
_OPEN = _WORKING | {"cancelling"}


def is_working(run: Json) -> bool:
    """Whether the provider is working on the run and has not been asked to stop."""
    return run.get("status") in _WORKING


def is_open(run: Json) -> bool:
    """Whether the provider is working on the run: it neither waits for outputs nor has it ended."""
    return run.get("status") in _OPEN


def is_waiting(run: Json) -> bool:
    """Whether the run waits for outputs."""
    return run.get("status") == _WAITING


def is_active(run: Json) -> bool:
    """Whether the run keeps its thread locked."""
    return is_open(run) or is_waiting(run)


def has_ended_well(run: Json) -> bool:
    """Whether the run has a reply."""
    return run.get("status") in _ENDED_WELL


def calls_of(run: Json) -> tuple[ToolCall, ...]:
    """The calls a run waits for."""
    action = run.get("required_action") or {}
    calls = (action.get("submit_tool_outputs") or {}).get("tool_calls") or ()
    return tuple(
        ToolCall(
            str(call.get("id")), FunctionCall(str(call["function"].get("name")), for_function(str(call["function"].get("arguments") or "")))
        )
        for call in calls
        if isinstance(call.get("function"), Mapping)
    )


def outcome_of(run: Json, replies: Sequence[str] = (), *, whole: bool = False) -> ActionRequired | RunEnded:
    """How a run that is not open ended, or what it waits for.

    Args:
        run: The run.
        replies: What the assistant said.
        whole: They are the whole run's, not the last round's.
    """
    run_id, status, said_so_far = str(run.get("id") or ""), str(run.get("status")), tuple(replies)
    if status == _WAITING:
        # No usage here: a run counts all its rounds together when it ends.
        return ActionRequired(run_id=run_id, calls=calls_of(run), replies=said_so_far, whole=whole)
    usage = usage_of(run.get("usage"))
    if status in _ENDED_WELL:
        reason = (run.get("incomplete_details") or {}).get("reason")
        return RunEnded(run_id=run_id, status=status, replies=said_so_far, whole=whole, usage=usage, incomplete_reason=reason)
    status = status if status in {"failed", "cancelled", "expired"} else "failed"
    ended = failure_of(run.get("last_error"), status).ended(run_id, status, replies=said_so_far, usage=usage)
    return replace(ended, whole=whole)


def texts_of(messages: Iterable[Json]) -> tuple[str, ...]:
    """What messages say, oldest first as far as their times tell; messages without text are left out."""
    ordered = sorted(messages, key=lambda message: message.get("created_at") or 0)
    texts = (said(message.get("content")) for message in ordered)
    return tuple(text for text in texts if text)


class RunReader:
    """The events of one request's stream: a run from its creation or its outputs to its next stop. Implements `streams.Reader`.

    Attributes:
        run: The run as it was shown last.
    """

    def __init__(self, thread: str) -> None:
        self.run_id: str | None = None
        self.outcome: RunEvent | None = None
        self.run: Json = {}
        self._thread = thread
        self._texts: dict[str, str] = {}

    def read(self, event: Event) -> list[RunEvent]:
        """What this event means."""
        data, kind = event.data, event.data.get("object")
        if event.name == "error" or (kind is None and isinstance(data.get("error"), Mapping)):
            self._fail(data)
            return []
        found: list[RunEvent] = []
        run_id = data.get("id") if kind == "thread.run" else data.get("run_id")
        if self.run_id is None and run_id:
            self.run_id = str(run_id)
            found.append(RunStarted(run_id=self.run_id))
        if kind == "thread.run":
            self._see(data)
        elif kind == "thread.message.delta":
            found.append(self._delta(data))
        elif kind == "thread.message" and event.name == "thread.message.completed" and data.get("role") == "assistant":
            self._texts[str(data.get("id"))] = said(data.get("content"))
        return found

    def _delta(self, data: Json) -> TextDelta:
        message_id = str(data.get("id"))
        parts = (data.get("delta") or {}).get("content") or ()
        text = "".join(text_of(part) for part in parts)
        self._texts[message_id] = self._texts.get(message_id, "") + text
        return TextDelta(text=text, part=list(self._texts).index(message_id), item=message_id)

    def _see(self, run: Json) -> None:
        self.run = run
        # Some servers announce the stop before they know the calls: then the run is read again.
        if run.get("status") is None or is_open(run) or (is_waiting(run) and not calls_of(run)):
            return
        self.outcome = outcome_of(run, [text for text in self._texts.values() if text])

    def _fail(self, data: Json) -> None:
        error = data["error"] if isinstance(data.get("error"), Mapping) else data
        if self.run_id is None:
            raise refused_in_stream(error, thread=self._thread)
        self.outcome = outcome_of({"id": self.run_id, "status": "failed", "last_error": error})
