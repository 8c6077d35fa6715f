"""What is sent to Redis, as values: the same for the sync and the async store.

An *operation* is a generator that yields calls (or lists of them, sent in one round trip) and is sent their replies; the two stores are
two short loops around it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from assistant_queue.clock import Clock
from assistant_queue.store import wakeups
from assistant_queue.store.keys import Keys
from assistant_queue.store.scripts import LuaScript, load

T = TypeVar("T")

RECHECK_MS = 1000
"""When somebody looks again at a thread whose wake-up has been handed over. Chosen: the sweeper's bound of a second."""
OVERDUE_MS = 2000
"""How overdue a thread must be before an add issues its wake-up: later than any scheduler that is alive. Chosen."""
GUARD_MS = 1000
"""From the end of a lease to its guard wake-up. Source: docs/reliability.md."""


@dataclass(frozen=True, slots=True)
class Call:
    """One command: a script, or a plain one.

    Attributes:
        script: None for a plain command.
        words: A plain command's words, or a script's arguments.
        keys: A script's keys.
    """

    script: LuaScript | None
    words: Sequence[Any]
    keys: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRules:
    """How a thread's events are kept.

    Attributes:
        mode: `listened`, `always` or `off`.
        limit: Entries of a stream that are kept at least; Redis trims in steps of about a hundred.
        ttl_ms: How long a stream lives after the last event, or after somebody last listened.
    """

    mode: str = "listened"
    limit: int = 1000
    ttl_ms: int = 3_600_000

    def argument(self) -> str:
        """As `lua/_events.lua` reads it."""
        return "" if self.mode == "off" else f"{self.mode} {self.limit} {self.ttl_ms}"


Operation = Generator[Call | list[Call], Any, T]
"""Yields calls, is sent raw replies, returns a value."""


def text(reply: Any) -> str:
    """A reply as text, whether or not the client decodes."""
    return reply.decode("utf-8") if isinstance(reply, bytes) else str(reply)


def texts(replies: Sequence[Any]) -> list[str]:
    """Replies as texts; None stays the empty string."""
    return ["" if reply is None else text(reply) for reply in replies]


def plain(*words: Any) -> Call:
    """A plain command."""
    return Call(None, words)


class Space:
    """One prefix: where its keys are and what its scripts are told each time."""

    def __init__(self, prefix: str, clock: Clock, events: EventRules | None = None) -> None:
        """`events` is None where nothing is written that anybody could listen to: the options' defaults hold."""
        self.events = EventRules() if events is None else events
        self.keys = Keys(prefix)
        self.prefix = prefix
        self.clock = clock
        keys = self.keys
        self._fixed_keys: dict[str, str] = {
            "due": keys.due,
            "failed": keys.failed,
            "counters": keys.counters,
            "paused": keys.paused,
            "scheduled": wakeups.scheduled_key(prefix),
            "queue": wakeups.queue_key(prefix),
            "queues": wakeups.QUEUES_KEY,
        }
        self._fixed_args: dict[str, str | int] = {
            "function": wakeups.FUNCTION,
            "origin": prefix,
            "tick": keys.tick,
            "recheck_ms": RECHECK_MS,
            "overdue_ms": OVERDUE_MS,
            "guard_ms": GUARD_MS,
            "events": self.events.argument(),
        }
        self._thread_keys: dict[str, Callable[[str], str]] = {
            "thread": keys.thread,
            "pending": keys.pending,
            "frozen": keys.frozen,
            "conversation": keys.conversation,
            "events": keys.events,
        }

    def call(
        self,
        name: str,
        thread_id: str = "",
        *,
        keys: dict[str, str] | None = None,
        rest: Sequence[str] = (),
        **args: str | int,
    ) -> Call:
        """A script's call: what every script is told is filled in, the rest comes from the caller."""
        script = load(name)
        given = keys or {}
        key_values: dict[str, str] = {}
        job_id = ""
        for key in script.keys:
            if key in given:
                key_values[key] = given[key]
            elif key in self._fixed_keys:
                key_values[key] = self._fixed_keys[key]
            elif key == "job":
                job_id = wakeups.new_job_id()
                key_values[key] = wakeups.job_key(job_id)
            else:
                key_values[key] = self._thread_keys[key](thread_id)
        now = self.clock.store_now_ms()
        values: dict[str, str | int] = {
            **self._fixed_args,
            "now": "" if now is None else now,
            "thread_id": thread_id,
            "job_id": job_id,
            **args,
        }
        if job_id:
            values["stamp"] = wakeups.stamp()
        ordered_keys, ordered_args = script.arrange(key_values, values, rest)
        return Call(script, ordered_args, ordered_keys)
