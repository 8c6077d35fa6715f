"""The text of a run without the reasoning that its model wrote into it."""

from __future__ import annotations

from dataclasses import replace

from assistant_queue.backends.reasoning_tags import ReasoningTags, TagFilter
from assistant_queue.core.runs import EMPTY, ActionRequired, RunEnded, TextChunk


class VisibleText:
    """Removes the reasoning from the text of one batch's runs.

    1. from deltas, message by message, so that each begins where its answer does
    2. from replies, so that they equal the deltas

    Without `tags`, all text passes as it is: a backend that keeps the history removes reasoning
    itself.
    """

    def __init__(self, tags: ReasoningTags | None) -> None:
        self._tags = tags
        self._run_id = ""
        self._filters: dict[str, TagFilter] = {}

    def begin(self, run_id: str, *, is_round: bool) -> None:
        """Begin a run; one that is followed further continues in the messages that it has begun."""
        if run_id != self._run_id or is_round:
            self._run_id = run_id
            self._filters.clear()

    def delta(self, delta: TextChunk) -> TextChunk:
        """Return the delta with the text that it adds to the answer."""
        if self._tags is None:
            return delta
        key = str(delta.part) if delta.item is None else delta.item
        found = self._filters.get(key)
        if found is None:
            found = self._filters[key] = self._tags.filter()
        text = found.feed(delta.text)
        return delta if text == delta.text else replace(delta, text=text)

    def stop(self, stop: ActionRequired | RunEnded) -> ActionRequired | RunEnded:
        """Return the stop with its answers; a run that completed with reasoning alone is empty."""
        if self._tags is None or not stop.replies:
            return stop
        replies = tuple(text for text in map(self._tags.without, stop.replies) if text.strip())
        if replies == stop.replies:
            return stop
        if isinstance(stop, RunEnded) and stop.status == "completed" and not replies:
            return replace(stop, replies=(), status="incomplete", incomplete_reason=EMPTY)
        return replace(stop, replies=replies)
