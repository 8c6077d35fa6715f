"""Events as they come out of a body, whatever its form. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assistant_queue.backends.wire_json import HalfJoiner

Json = dict[str, Any]

_NO_NAME = "message"
"""What an event without a name is called. Source: the standard."""


class UnreadableAnswer(ValueError):
    """The body is no answer, or was broken off in the middle of a value. The text completes "The provider's answer ..."."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `name` is its name, else its `type`, "" if it has neither."""

    name: str
    data: Json


class Body:
    """What both kinds of bodies do with a value: make events of it, with whole characters.

    Attributes:
        is_done: `[DONE]` was read.
        joiner: Holds values back that end in one half of a character; None as a rule.
    """

    __slots__ = ("is_done", "joiner")

    def __init__(self) -> None:
        self.is_done = False
        self.joiner: HalfJoiner | None = None

    def make(self, name: str, value: Any, found: list[Event], *, is_suspect: bool) -> None:
        """Add the events of a value; `is_suspect`: its texts may hold halves of characters."""
        if not is_suspect and self.joiner is None:
            _add_events(name, value, found)
            return
        self.joiner = self.joiner or HalfJoiner()
        for label, whole in self.joiner.add(name, value):
            _add_events(label, whole, found)
        if not self.joiner.is_waiting:
            self.joiner = None

    def flush(self, found: list[Event]) -> None:
        """Add the events that wait for the other half of a character: nothing more will come."""
        if self.joiner is not None:
            for label, whole in self.joiner.flush():
                _add_events(label, whole, found)
            self.joiner = None


def name_of(name: str, value: Json) -> str:
    """Return what an event is called: by its name, if that says anything, else by its type."""
    if name and name != _NO_NAME:
        return name
    kind = value.get("type")
    return kind if isinstance(kind, str) else ""


def _add_events(name: str, value: Any, found: list[Event]) -> None:
    """Add the events that a JSON value is: an object is one, an array as many as it has objects."""
    if isinstance(value, dict):
        found.append(Event(name_of(name, value), value))
    elif isinstance(value, list):
        for one in value:
            _add_events(name, one, found)
