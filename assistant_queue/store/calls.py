"""Commands to Redis as values, shared by the blocking and the asyncio store.

An *operation* is a generator that yields calls (or lists of them, sent in one round trip) and
receives their replies; the two stores are two short loops around it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from assistant_queue.clock import Clock
from assistant_queue.errors import NotEncodable, NotPermitted, StoreError
from assistant_queue.store import wakeups
from assistant_queue.store.keys import Keys, base_of
from assistant_queue.store.scripts import Constants, LuaScript, load
from assistant_queue.store.sendable import encodable

if TYPE_CHECKING:
    from assistant_queue.core.measures import Counts

T = TypeVar("T")

RECHECK_MS = 1000
"""Time until a thread with an enqueued wake-up is checked again. Chosen: the sweeper's bound of a
second."""
OVERDUE_MS = 2000
"""Delay of a due thread before an add issues its wake-up. Chosen: twice the second between
two polls of a scheduler, so that an add wakes a thread only if no scheduler is alive."""
GUARD_MS = 1000
"""From the end of a lease to its guard wake-up. Source: docs/reliability.md."""
OVER_MS = 3_600_000
"""Time for which a late copy of a call without other traces is recognised. Chosen: TCP gives up on
a segment after a quarter of that."""


@dataclass(slots=True)  # a frozen one takes three times as long to make
class Call:
    """One command: a script, or a plain one.

    Attributes:
        script: None for a plain command.
        words: A plain command's words, or a script's arguments.
        keys: A script's keys.
        thread_id: The thread that a script is about; empty for none.
        namespace: The namespace of a script's keys; None for a plain command.
        blocks: The command blocks: no other may share its round trip, or it would wait, too.
    """

    script: LuaScript | None
    words: Sequence[Any]
    keys: Sequence[str] = ()
    thread_id: str = ""
    namespace: Namespace | None = None
    blocks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRules:
    """Retention of a thread's events.

    Attributes:
        mode: `listened`, `always` or `off`.
        limit: Minimum number of entries kept in a stream; Redis trims in steps of about a hundred.
        ttl_ms: How long a stream lives after the last event, or after the last subscriber left.
    """

    mode: str = "listened"
    limit: int = 1000
    ttl_ms: int = 3_600_000

    def argument(self) -> str:
        """Return the rules in the form that `lua/_events.lua` parses."""
        return "" if self.mode == "off" else f"{self.mode} {self.limit} {self.ttl_ms}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRules:
    """Retention of a thread's journal.

    Attributes:
        most: Entries that are kept; 0 to write none.
        ttl_ms: How long.
    """

    most: int = 200
    ttl_ms: int = 604_800_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRules:
    """Spooling for the audit.

    Attributes:
        most: Batches that wait for the database; 0 to keep none.
        max_chars: Characters of a text that are kept.
    """

    most: int = 0
    max_chars: int = 100_000


@dataclass(frozen=True, slots=True)
class Pipelined:
    """Calls sent without waiting: the operation receives the replies to the previous `Pipelined`.

    The first one receives none; an empty one asks for the last replies. So a round trip is prepared
    while Redis works on the one before. Any other step in between waits for the pipelined calls. An
    operation that pipelines must handle `corrupt` replies itself (`store/quarantine.py`).
    """

    calls: list[Call]


class Each(list[Call]):
    """Calls of one round trip that fail one by one: a refused call's reply is a `StoreError`."""


Operation = Generator[Call | list[Call] | Pipelined, Any, T]
"""Yields calls, receives raw replies, returns a value."""


def text(reply: Any) -> str:
    """Return a reply as text, whether or not the client decodes.

    Bytes that are not UTF-8 become lone surrogates, not an error.
    """
    return reply.decode("utf-8", "surrogateescape") if isinstance(reply, bytes) else str(reply)


def texts(replies: Sequence[Any]) -> list[str]:
    """Return replies as texts; None becomes the empty string."""
    return ["" if reply is None else text(reply) for reply in replies]


def whole_number(said: str) -> int:
    """Return a stored number; 0 if it is none, because another program changed it."""
    return int(said) if said.isdecimal() and len(said) <= _MOST_DIGITS else 0


_MOST_DIGITS = 15
"""Digits of a stored time. Source: `is_number` in lua/_sound.lua."""


def run_one(call: Call) -> Operation[Any]:
    """Return the reply of one call."""
    return (yield call)


def plain(*words: Any) -> Call:
    """Return a plain command."""
    return Call(None, words)


def blocking(*words: Any) -> Call:
    """Return a plain command that blocks."""
    return Call(None, words, blocks=True)


CONSTANTS: Constants = (
    ("function", wakeups.FUNCTION),
    ("recheck_ms", RECHECK_MS),
    ("overdue_ms", OVERDUE_MS),
    ("guard_ms", GUARD_MS),
    ("over_ms", OVER_MS),
)
"""Arguments of every script that are the same for all callers."""

_REAL_TIME: Constants = (("now", ""),)
"""Redis `TIME` counts: no time is sent."""

_NO_KEYS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Plan:
    """Calling convention of one version of a script under one prefix.

    Attributes:
        keys: The keys of the prefix, and in the place of every other one the beginning of a
            thread's key, or nothing.
        of_thread: Places of the thread's keys.
        own: Places of the operation's own keys, with their names there.
        job: Place of the key of a wake-up that the script may write, which gets a fresh id; -1 if
            it writes none.
    """

    script: LuaScript
    keys: list[str]
    of_thread: tuple[int, ...]
    own: tuple[tuple[int, str], ...]
    job: int


def each(calls: Sequence[Call]) -> Operation[list[Any]]:
    """Return the replies, None for a command that Redis refuses for its key's type."""
    replies = yield from each_or_error(calls)
    for reply in replies:
        if isinstance(reply, NotPermitted):
            raise reply
    return [None if isinstance(reply, StoreError) else reply for reply in replies]


def each_or_error(calls: Sequence[Call]) -> Operation[list[Any]]:
    """Return the replies; a refused command's reply is its error."""
    if len(calls) > 1:
        with suppress(NotEncodable):  # one of them prevented all from being sent: find out which
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
    """Translate errors of parsing stored data, which any program may have written.

    Raises:
        StoreError: The data cannot be read. Nothing was changed.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        what = (
            f"{type(error).__name__}: {error}"
            if isinstance(error, KeyError)
            else type(error).__name__
        )
        raise StoreError(
            f"The content of the Redis key {key!r} was not written by this queue ({what}); "
            "nothing was changed: inspect the key"
        ) from error


class Namespace:
    """One prefix: its keys, and the arguments that all its scripts share.

    Attributes:
        is_settled: Which keys the queue has is known. Until then they are those of a new queue
            (`store/layout.py`).
        is_counted: What workers do is counted (the option `metrics`).
    """

    def __init__(
        self,
        prefix: str,
        clock: Clock,
        events: EventRules | None = None,
        journal: JournalRules | None = None,
        audit: AuditRules | None = None,
        *,
        is_counted: bool = True,
        poll_rate: float = 50.0,
    ) -> None:
        """`events`, `journal` and `audit` are None for callers that write none: defaults hold.

        `poll_rate`: most polls a second of runs in the background.
        """
        self.is_counted = is_counted
        self.events = EventRules() if events is None else events
        self.journal = JournalRules() if journal is None else journal
        self.audit = AuditRules() if audit is None else audit
        self.prefix = prefix
        self.clock = clock
        self._constants: Constants = (
            *CONSTANTS,
            ("events", self.events.argument()),
            ("journal_most", self.journal.most),
            ("journal_ttl_ms", self.journal.ttl_ms),
            ("audit_most", self.audit.most),
            ("poll_gap", f"{1000 / poll_rate:.3f}"),
        )
        self._lay_out(base_of(prefix))
        self.is_settled = self.keys.prefix == prefix

    def time_ms(self, reply: Any) -> int:
        """Return the store's time, ms, with Redis' reply to TIME: a test's clock has its own."""
        own_ms = self.clock.store_now_ms()
        return int(reply[0]) * 1000 + int(reply[1]) // 1000 if own_ms is None else own_ms

    def counted(self, counts: Callable[[], Counts]) -> str:
        """Return what a step adds to the metrics, as its script reads it; "" if nothing counts."""
        return counts().dump() if self.is_counted else ""

    def settle(self, base: str) -> None:
        """Use the keys that begin with `base` from now on."""
        if base != self.keys.prefix:
            self._lay_out(base)
        self.is_settled = True

    def _lay_out(self, base: str) -> None:
        self.keys = keys = Keys(base)
        prefix = self.prefix
        self._fixed_keys: dict[str, str] = {
            "due": keys.due,
            "stopping": keys.stopping,
            "pausing": keys.pausing,
            "failed": keys.failed,
            "deliveries": keys.deliveries,
            "counters": keys.counters,
            "metrics": keys.metrics,
            "runs": keys.runs,
            "heard": keys.heard,
            "polls": keys.polls,
            "approvals": keys.approvals,
            "questions": keys.questions,
            "audit": keys.audit,
            "auditing": keys.auditing,
            "operations": keys.operations,
            "paused": keys.paused,
            "leader": keys.leader,
            "feed": keys.feed,
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
            "pace": keys.pace(""),
            "events": keys.events(""),
            "outbox": keys.outbox(""),
            "delivering": keys.delivering(""),
            "journal": keys.journal(""),
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
        """Return a script's call: the shared arguments are filled in, the caller passes the rest.

        Args:
            name: The script's name.
            thread_id: The thread's id, if the script has one.
            keys: The operation's own keys.
            rest: The keys that can be any number.
            constants: Arguments that are written into the script. Few different ones: Redis keeps
                each version.
            args: The operation's own arguments.
        """
        now = self.clock.store_now_ms()
        plan = self._plans.get((name, constants, now is None))
        if plan is None:
            plan = self._plan(name, constants, is_real=now is None)
        args["thread_id"] = thread_id
        if now is not None:
            args["now"] = now
        words = plan.keys.copy()
        for place in plan.of_thread:
            words[place] += thread_id
        for place, own in plan.own:
            words[place] = keys[own]
        if plan.job >= 0:
            args["job_id"] = job_id = wakeups.new_job_id()
            args["stamp"] = wakeups.stamp()
            words[plan.job] = wakeups.job_key(job_id)
        # Texts come from users and providers: one that UTF-8 cannot encode must not cost a reply.
        # Names of keys are refused instead, never changed.
        texts = [
            value
            if type(value) is not str or value.isascii()
            else encodable(value)  # isascii() first, without a call: most are ASCII
            for value in [args[name] for name in plan.script.args]
        ]
        return Call(plan.script, texts, [*words, *rest] if rest else words, thread_id, self)

    def _plan(self, name: str, constants: Constants, *, is_real: bool) -> _Plan:
        script = load(name, (*self._constants, *(_REAL_TIME if is_real else ()), *constants))
        fixed = self._fixed_keys
        of_thread = self._thread_keys
        plan = _Plan(
            script,
            keys=[fixed.get(key) or of_thread.get(key, "") for key in script.keys],
            of_thread=tuple(place for place, key in enumerate(script.keys) if key in of_thread),
            own=tuple(
                (place, key)
                for place, key in enumerate(script.keys)
                if key not in fixed and key not in of_thread and key != "job"
            ),
            job=script.keys.index("job") if "job" in script.keys else -1,
        )
        self._plans[name, constants, is_real] = plan
        return plan
