"""Parse runs of the Assistants protocol: events, objects and messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from assistant_queue.backends.openai.call_arguments import for_function
from assistant_queue.backends.openai.content import Json, object_in, objects_in, said
from assistant_queue.backends.openai.run_failures import failure_of, refused_in_stream
from assistant_queue.backends.openai.token_usage import name_of, usage_of
from assistant_queue.backends.openai.wire_events import WireEvent
from assistant_queue.core.runs import ActionRequired, RunAccepted, RunEnded, RunEvent, TextChunk
from assistant_queue.models import FunctionCall, ToolCall

_WAITING = "requires_action"

_ENDED_WELL = frozenset({"completed", "incomplete"})
_WORKING = frozenset({"queued", "in_progress"})
_OPEN = _WORKING | {"cancelling"}


def is_working(run: Json) -> bool:
    """Return whether the provider is working on the run and has not been asked to stop."""
    return str(run.get("status")) in _WORKING


def is_open(run: Json) -> bool:
    """Return whether the run is in progress: neither waiting for outputs nor ended."""
    return str(run.get("status")) in _OPEN


def is_waiting(run: Json) -> bool:
    """Return whether the run waits for outputs."""
    return run.get("status") == _WAITING


def is_active(run: Json) -> bool:
    """Return whether the run keeps its thread locked."""
    return is_open(run) or is_waiting(run)


def has_ended_well(run: Json) -> bool:
    """Return whether the run ended with a reply."""
    return str(run.get("status")) in _ENDED_WELL


def calls_of(run: Json) -> tuple[ToolCall, ...]:
    """Return the calls a run waits for."""
    action = object_in(run.get("required_action"))
    calls = objects_in(object_in(action.get("submit_tool_outputs")).get("tool_calls"))
    return tuple(
        ToolCall(
            str(call.get("id")),
            FunctionCall(
                str(call["function"].get("name")),
                for_function(str(call["function"].get("arguments") or "")),
            ),
        )
        for call in calls
        if isinstance(call.get("function"), Mapping)
    )


def outcome_of(
    run: Json, replies: Sequence[str] = (), *, whole: bool = False
) -> ActionRequired | RunEnded:
    """Return the outcome of a run that is not in progress: its end, or its calls.

    Args:
        run: The run.
        replies: The assistant's texts.
        whole: Whether they are those of the whole run, not of the last round.
    """
    run_id = str(run.get("id") or "")
    status = str(run.get("status"))
    said_so_far = tuple(replies)
    if status == _WAITING:
        # No usage here: a run counts all its rounds together when it ends.
        expires = run.get("expires_at")
        return ActionRequired(
            run_id=run_id,
            calls=calls_of(run),
            replies=said_so_far,
            whole=whole,
            expires_ms=round(expires * 1000) if isinstance(expires, int | float) else 0,
        )
    model = name_of(run.get("model"))
    usage = usage_of(run.get("usage"), model=model, rounds=0)
    if status in _ENDED_WELL:
        reason = name_of(object_in(run.get("incomplete_details")).get("reason"))
        return RunEnded(
            run_id=run_id,
            status=status,
            replies=said_so_far,
            whole=whole,
            usage=usage,
            incomplete_reason=reason,
            model=model,
        )
    status = status if status in {"failed", "cancelled", "expired"} else "failed"
    ended = failure_of(run.get("last_error"), status).ended(
        run_id, status, replies=said_so_far, usage=usage
    )
    return replace(ended, whole=whole)


def created_at(message: Json) -> float:
    """Return a message's time, to sort by; 0 if it has none."""
    time = message.get("created_at")
    return float(time) if isinstance(time, int | float) else 0.0


def texts_of(messages: Iterable[Json]) -> tuple[str, ...]:
    """Return the texts of messages, oldest first by their times.

    Messages without text are left out.
    """
    ordered = sorted(messages, key=created_at)
    texts = (said(message.get("content")) for message in ordered)
    return tuple(text for text in texts if text)


class RunReader:
    """Read the events of one request's stream, up to the run's next stop.

    Implements `streams.Reader`.

    Attributes:
        run: The run as it was read last.
    """

    def __init__(self, thread: str) -> None:
        self.run_id: str | None = None
        self.outcome: RunEvent | None = None
        self.run: Json = {}
        self._thread = thread
        self._texts: dict[str, str] = {}

    def read(self, event: WireEvent) -> list[RunEvent]:
        """Convert one event."""
        data = event.data
        kind = event.data.get("object")
        if event.name == "error" or (kind is None and isinstance(data.get("error"), Mapping)):
            self._fail(data)
            return []
        found: list[RunEvent] = []
        run_id = data.get("id") if kind == "thread.run" else data.get("run_id")
        if self.run_id is None and run_id:
            self.run_id = str(run_id)
            found.append(RunAccepted(run_id=self.run_id))
        if kind == "thread.run":
            self._see(data)
        elif kind == "thread.message.delta":
            found.append(self._delta(data))
        elif (
            kind == "thread.message"
            and event.name == "thread.message.completed"
            and data.get("role") == "assistant"
        ):
            self._texts[str(data.get("id"))] = said(data.get("content"))
        return found

    def _delta(self, data: Json) -> TextChunk:
        message_id = str(data.get("id"))
        text = said(object_in(data.get("delta")).get("content"))
        texts = self._texts
        texts[message_id] = texts.get(message_id, "") + text
        part = 0 if len(texts) == 1 else list(texts).index(message_id)
        return TextChunk(text=text, part=part, item=message_id)

    def _see(self, run: Json) -> None:
        self.run = run
        # Some servers announce the stop before the calls: then the run is read again.
        if run.get("status") is None or is_open(run) or (is_waiting(run) and not calls_of(run)):
            return
        self.outcome = outcome_of(run, [text for text in self._texts.values() if text])

    def _fail(self, data: Json) -> None:
        error = data["error"] if isinstance(data.get("error"), Mapping) else data
        if self.run_id is None:
            raise refused_in_stream(error, thread=self._thread)
        self.outcome = outcome_of({"id": self.run_id, "status": "failed", "last_error": error})
