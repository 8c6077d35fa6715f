"""A reader of a thread's events, as `docs/events.md` describes one: what a page would show."""

from __future__ import annotations

from dataclasses import dataclass, field

from assistant_queue.events import (
    AttemptFailed,
    BatchDeadLettered,
    BatchParked,
    Event,
    MessageQueued,
    ReplyReady,
    RunStarted,
    TextDelta,
)


@dataclass
class Transcript:
    """Applies events in order.

    Attributes:
        asked: The contents of the messages, in order.
        replies: Of each batch that was answered, as its `reply_ready` says.
        streamed: The same, put together from deltas alone.
        restarts: Messages that were begun again.
    """

    asked: list[object] = field(default_factory=list)
    replies: dict[str, tuple[str, ...]] = field(default_factory=dict)
    streamed: dict[str, list[str]] = field(default_factory=dict)
    restarts: int = 0
    seen: list[str] = field(default_factory=list)
    _runs: dict[str, dict[str, dict[int, str]]] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        assert event.id not in self.seen, f"told twice: {event}"
        self.seen.append(event.id)
        if isinstance(event, MessageQueued):
            self.asked.append(event.content)
        elif isinstance(event, RunStarted):
            self._runs.setdefault(event.batch_id, {}).setdefault(event.run_id, {})
        elif isinstance(event, TextDelta):
            self._delta(event)
        elif isinstance(event, AttemptFailed | BatchDeadLettered | BatchParked):
            self._runs.pop(event.batch_id, None)
        elif isinstance(event, ReplyReady):
            assert event.batch_id not in self.replies, "answered twice"
            self.replies[event.batch_id] = event.replies
            self.streamed[event.batch_id] = self.text_of(event.batch_id)

    def _delta(self, event: TextDelta) -> None:
        texts = self._runs.setdefault(event.batch_id, {}).setdefault(event.run_id, {})
        before = texts.get(event.index, "")
        assert event.text
        if event.offset == 0 and before:
            self.restarts += 1
            before = ""
        assert event.offset == len(before), f"a gap or a repeat: {before!r} and {event}"
        texts[event.index] = before + event.text

    def text_of(self, batch_id: str) -> list[str]:
        """Return the texts that the runs of a batch have emitted so far, one entry a message."""
        return [
            texts[index]
            for texts in self._runs.get(batch_id, {}).values()
            for index in sorted(texts)
        ]
