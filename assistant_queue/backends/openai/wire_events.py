"""Represent events of a body of any form. Pure."""

from __future__ import annotations

from typing import Any

from assistant_queue.backends.openai.wire_json import HalfJoiner
from assistant_queue.values import valueclass

Json = dict[str, Any]

_NO_NAME = "message"
"""Name of an event without one. Source: the standard."""


class UnreadableAnswer(ValueError):
    """Raised if the body is not an answer, or was cut off in the middle of a value.

    The text completes "The provider's answer ...".
    """


@valueclass(frozen=True, slots=True)
class WireEvent:
    """One event; `name` is its name, else its `type`, "" if it has neither."""

    name: str
    data: Json


class Body:
    """Convert values to events with whole characters: shared by both kinds of bodies.

    Attributes:
        is_done: `[DONE]` was read.
        joiner: Holds back values that end in one half of a character; usually None.
    """

    __slots__ = ("is_done", "joiner")

    def __init__(self) -> None:
        self.is_done = False
        self.joiner: HalfJoiner | None = None

    def make(self, name: str, value: Any, found: list[WireEvent], *, is_suspect: bool) -> None:
        """Add the events of a value; `is_suspect`: its texts may hold halves of characters."""
        if not is_suspect and self.joiner is None:
            _add_events(name, value, found)
            return
        self.joiner = self.joiner or HalfJoiner()
        for label, whole in self.joiner.add(name, value):
            _add_events(label, whole, found)
        if not self.joiner.is_waiting:
            self.joiner = None

    def flush(self, found: list[WireEvent]) -> None:
        """Add the events that wait for the other half of a character: nothing more will come."""
        if self.joiner is not None:
            for label, whole in self.joiner.flush():
                _add_events(label, whole, found)
            self.joiner = None


def name_of(name: str, value: Json) -> str:
    """Return the name of an event: its own, if it says anything, else its type."""
    if name and name != _NO_NAME:
        return name
    kind = value.get("type")
    return kind if isinstance(kind, str) else ""


def _add_events(name: str, value: Any, found: list[WireEvent]) -> None:
    """Add the events of a JSON value: one for an object, one for each object of an array."""
    if isinstance(value, dict):
        found.append(WireEvent(name_of(name, value), value))
    elif isinstance(value, list):
        for one in value:
            _add_events(name, one, found)
