"""What a run says, without the reasoning that its model wrote into the text."""

from __future__ import annotations

from dataclasses import replace

from assistant_queue.backends.reasoning_tags import ReasoningTags, TagFilter
from assistant_queue.core.runs import EMPTY, ActionRequired, RunEnded, TextDelta


class Spoken:
    """Takes the reasoning out of one batch's runs.

    1. out of deltas, message by message, so that each begins where its answer does
    2. out of replies, so that they are what the deltas were

    Without `tags`, everything passes as it is: a backend that remembers what was said does this by itself.
    """

    def __init__(self, tags: ReasoningTags | None) -> None:
        self._tags = tags
        self._run_id = ""
        self._filters: dict[str, TagFilter] = {}

    def begin(self, run_id: str, *, is_round: bool) -> None:
        """A run has started; one that is followed further goes on in the messages that it has begun."""
        if run_id != self._run_id or is_round:
            self._run_id = run_id
            self._filters.clear()

    def delta(self, delta: TextDelta) -> TextDelta:
        """Return the delta with what it adds to the answer."""
        if self._tags is None:
            return delta
        key = str(delta.part) if delta.item is None else delta.item
        found = self._filters.get(key)
        if found is None:
            found = self._filters[key] = self._tags.filter()
        text = found.feed(delta.text)
        return delta if text == delta.text else replace(delta, text=text)

    def stop(self, stop: ActionRequired | RunEnded) -> ActionRequired | RunEnded:
        """Return how the run stopped, with its answers; one that ended well with nothing but reasoning is empty."""
        if self._tags is None or not stop.replies:
            return stop
        replies = tuple(text for text in map(self._tags.without, stop.replies) if text.strip())
        if isinstance(stop, RunEnded) and stop.status == "completed" and not replies:
            return replace(stop, replies=(), status="incomplete", incomplete_reason=EMPTY)
        return replace(stop, replies=replies)
