"""What is sent to Redis, as values: the same for the sync and the async store.

An *operation* is a generator that yields calls (or lists of them, sent in one round trip) and is sent their replies; the two stores are
two short loops around it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from assistant_queue.clock import Clock
from assistant_queue.errors import NotPermitted, StoreError
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
        thread_id: The thread that a script is about; empty where it is about none.
        space: Where a script's keys are; None for a plain command.
    """

    script: LuaScript | None
    words: Sequence[Any]
    keys: Sequence[str] = ()
    thread_id: str = ""
    space: Space | None = None


Operation = Generator[Call | list[Call], Any, T]
"""Yields calls, is sent raw replies, returns a value."""


def text(reply: Any) -> str:
    """A reply as text, whether or not the client decodes; bytes that are no text of ours become lone surrogates, not an error."""
    return reply.decode("utf-8", "surrogateescape") if isinstance(reply, bytes) else str(reply)


def texts(replies: Sequence[Any]) -> list[str]:
    """Replies as texts; None stays the empty string."""
    return ["" if reply is None else text(reply) for reply in replies]


def plain(*words: Any) -> Call:
    """A plain command."""
    return Call(None, words)


def each(calls: Sequence[Call]) -> Operation[list[Any]]:
    """The replies, None for a command that Redis refuses because its key is of another type."""
    if len(calls) > 1:
        try:
            return list((yield list(calls)))
        except NotPermitted:
            raise
        except StoreError:
            pass  # one of them: find out which
    replies: list[Any] = []
    for call in calls:
        try:
            replies.append((yield call))
        except NotPermitted:
            raise
        except StoreError:
            replies.append(None)
    return replies


@contextmanager
def reading(key: str) -> Iterator[None]:
    """What is read here may be of anybody's making.

    Raises:
        StoreError: It cannot be read. Nothing was changed.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        what = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else type(error).__name__
        raise StoreError(f"what Redis holds in {key!r} is not of this queue's making ({what}); nothing was changed - look at it") from error


class Space:
    """One prefix: where its keys are and what its scripts are told each time."""

    def __init__(self, prefix: str, clock: Clock) -> None:
        self.keys = Keys(prefix)
        self.prefix = prefix
        self.clock = clock
        keys = self.keys
        self._fixed_keys: dict[str, str] = {
            "due": keys.due,
            "failed": keys.failed,
            "counters": keys.counters,
            "paused": keys.paused,
            "quarantine": keys.quarantine,
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
        }
        self._thread_keys: dict[str, Callable[[str], str]] = {
            "thread": keys.thread,
            "pending": keys.pending,
            "frozen": keys.frozen,
            "conversation": keys.conversation,
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
        return Call(script, ordered_args, ordered_keys, thread_id, self)
