"""What is sent to Redis, as values: the same for the sync and the async store.

An *operation* is a generator that yields calls (or lists of them, sent in one round trip) and is sent their replies; the two stores are
two short loops around it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from assistant_queue.clock import Clock
from assistant_queue.errors import NotEncodable, NotPermitted, StoreError
from assistant_queue.store import wakeups
from assistant_queue.store.keys import Keys, base_of
from assistant_queue.store.scripts import Constants, LuaScript, load
from assistant_queue.store.sendable import mended

T = TypeVar("T")

RECHECK_MS = 1000
"""When somebody looks again at a thread whose wake-up has been handed over. Chosen: the sweeper's bound of a second."""
OVERDUE_MS = 2000
"""How overdue a thread must be before an add issues its wake-up: later than any scheduler that is alive. Chosen."""
GUARD_MS = 1000
"""From the end of a lease to its guard wake-up. Source: docs/reliability.md."""
OVER_MS = 3_600_000
"""How long a late copy of a call that leaves no other trace is known. Chosen: TCP gives up on a segment after a quarter of that."""


@dataclass(frozen=True, slots=True)
class Call:
    """One command: a script, or a plain one.

    Attributes:
        script: None for a plain command.
        words: A plain command's words, or a script's arguments.
        keys: A script's keys.
        thread_id: The thread that a script is about; empty where it is about none.
        space: Where a script's keys are; None for a plain command.
        blocks: It waits for something to happen: nothing else may share its round trip, or it would wait, too.
    """

    script: LuaScript | None
    words: Sequence[Any]
    keys: Sequence[str] = ()
    thread_id: str = ""
    space: Space | None = None
    blocks: bool = False


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


@dataclass(frozen=True, slots=True)
class Ahead:
    """Calls whose replies are not waited for: the operation is sent those of the `Ahead` before it, none for the first.

    So a round trip is prepared while Redis works on the one before. An empty one asks for the last replies. Any other step in between waits
    until what was sent ahead is done. Whoever sends ahead looks for replies that say `corrupt` itself (`store/quarantine.py`).
    """

    calls: list[Call]


class Each(list[Call]):
    """Calls of one round trip that fail one by one: where Redis refuses one, a `StoreError` stands in its reply's place."""


Operation = Generator[Call | list[Call] | Ahead, Any, T]
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


def blocking(*words: Any) -> Call:
    """A plain command that waits for something to happen."""
    return Call(None, words, blocks=True)


CONSTANTS: Constants = (
    ("function", wakeups.FUNCTION),
    ("recheck_ms", RECHECK_MS),
    ("overdue_ms", OVERDUE_MS),
    ("guard_ms", GUARD_MS),
    ("over_ms", OVER_MS),
)
"""What every script is told and no caller decides."""

_REAL_TIME: Constants = (("now", ""),)
"""Redis `TIME` decides: no time is sent."""

_NO_KEYS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one version of a script is called under one prefix.

    Attributes:
        keys: For each key where it comes from, and the key, its beginning, or its name among the operation's own.
        has_job: The script may write a wake-up, and is given a fresh id for it.
    """

    script: LuaScript
    keys: tuple[tuple[Literal["prefix", "thread", "job", "own"], str], ...]
    has_job: bool


def each(calls: Sequence[Call]) -> Operation[list[Any]]:
    """The replies, None for a command that Redis refuses because its key is of another type."""
    replies = yield from each_or_error(calls)
    for reply in replies:
        if isinstance(reply, NotPermitted):
            raise reply
    return [None if isinstance(reply, StoreError) else reply for reply in replies]


def each_or_error(calls: Sequence[Call]) -> Operation[list[Any]]:
    """The replies; where Redis refuses a command, the error in the reply's place."""
    if len(calls) > 1:
        with suppress(NotEncodable):  # one of them has kept all from being sent: find out which
            return list((yield Each(calls)))
    replies: list[Any] = []
    for call in calls:
        try:
            replies.append((yield call))
        except StoreError as error:
            replies.append(error)
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
    """One prefix: where its keys are and what its scripts are told each time.

    Attributes:
        is_settled: Which keys the queue has is known. Until then they are those of a new queue (`store/layout.py`).
    """

    def __init__(self, prefix: str, clock: Clock, events: EventRules | None = None) -> None:
        """`events` is None where nothing is written that anybody could listen to: the options' defaults hold."""
        self.events = EventRules() if events is None else events
        self.prefix = prefix
        self.clock = clock
        self._constants: Constants = (*CONSTANTS, ("events", self.events.argument()))
        self._lay_out(base_of(prefix))
        self.is_settled = self.keys.prefix == prefix

    def settle(self, base: str) -> None:
        """Use the keys that begin with `base`, from now on."""
        if base != self.keys.prefix:
            self._lay_out(base)
        self.is_settled = True

    def _lay_out(self, base: str) -> None:
        self.keys = keys = Keys(base)
        prefix = self.prefix
        self._fixed_keys: dict[str, str] = {
            "due": keys.due,
            "failed": keys.failed,
            "counters": keys.counters,
            "paused": keys.paused,
            "timer": keys.timer,
            "quarantine": keys.quarantine,
            "scheduled": wakeups.scheduled_key(prefix),
            "queue": wakeups.queue_key(prefix),
            "queues": wakeups.queues_key(),
        }
        self._thread_keys: dict[str, str] = {
            "thread": keys.thread(""),
            "pending": keys.pending(""),
            "frozen": keys.frozen(""),
            "conversation": keys.conversation(""),
            "events": keys.events(""),
        }
        self._plans: dict[tuple[str, Constants, bool], _Plan] = {}

    def call(
        self,
        name: str,
        thread_id: str = "",
        *,
        keys: Mapping[str, str] = _NO_KEYS,
        rest: Sequence[str] = (),
        constants: Constants = (),
        **args: Any,
    ) -> Call:
        """A script's call: what every script is told is filled in, the rest comes from the caller.

        Args:
            name: The script's.
            thread_id: The thread's, where the script has one.
            keys: Keys of the operation's own.
            rest: Keys of which there are any number.
            constants: Arguments that are written into the script. Few different ones: Redis keeps each version.
            args: Arguments of the operation's own.
        """
        now = self.clock.store_now_ms()
        plan = self._plans.get((name, constants, now is None))
        if plan is None:
            plan = self._plan(name, constants, is_real=now is None)
        args["thread_id"] = thread_id
        if now is not None:
            args["now"] = now
        job_key = ""
        if plan.has_job:
            args["job_id"] = job_id = wakeups.new_job_id()
            args["stamp"] = wakeups.stamp()
            job_key = wakeups.job_key(job_id)
        words = [
            word if kind == "prefix" else word + thread_id if kind == "thread" else keys[word] if kind == "own" else job_key
            for kind, word in plan.keys
        ]
        # Texts come from people and providers: one without bytes must not cost a reply. Names of keys are refused instead, never changed.
        texts = [
            value if type(value) is not str or value.isascii() else mended(value)  # asked without a call: most are ASCII
            for value in [args[name] for name in plan.script.args]
        ]
        return Call(plan.script, texts, [*words, *rest] if rest else words, thread_id, self)

    def _plan(self, name: str, constants: Constants, *, is_real: bool) -> _Plan:
        script = load(name, (*self._constants, *(_REAL_TIME if is_real else ()), *constants))
        plan = _Plan(script, tuple(self._source_of(key) for key in script.keys), has_job="job" in script.keys)
        self._plans[name, constants, is_real] = plan
        return plan

    def _source_of(self, key: str) -> tuple[Literal["prefix", "thread", "job", "own"], str]:
        if key in self._fixed_keys:
            return "prefix", self._fixed_keys[key]
        if key in self._thread_keys:
            return "thread", self._thread_keys[key]
        return ("job", "") if key == "job" else ("own", key)
