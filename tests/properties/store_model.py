"""The store's guarantees as a model in plain Python: lists and a lease for each thread.

And a machine that compares the two after every step.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from assistant_queue.core.batch_records import load_records
from assistant_queue.core.first_send import first_send_of
from assistant_queue.core.flow import Rules
from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import Capabilities, FoundBy
from assistant_queue.core.settlements import OpenCall
from assistant_queue.core.stored_rows import AttemptRow
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.window import (
    NEVER_MS,
    ThreadPace,
    Window,
    adapted,
    due_at,
    is_never,
    kept_open,
)
from assistant_queue.core.wishes import Wish, Wished
from assistant_queue.errors import (
    ApprovalNotFound,
    BatchNotFound,
    LeaseLost,
    MessageIdConflict,
    ThreadBusy,
    ThreadFull,
    ThreadTakenOver,
)
from assistant_queue.models import ExplanationVerdict, Message
from assistant_queue.store import rq_jobs
from assistant_queue.store.calls import Call, JournalRules, Namespace
from assistant_queue.store.ops import (
    batch_changes,
    control,
    event_log,
    explaining,
    steering,
    sweeping,
)
from assistant_queue.store.ops.leases import Lease, NoLease, Saved
from assistant_queue.store.rq_jobs import NO_JOB, RqJob
from tests.contract.store_rig import COUNTERS, ERROR, Rig, waiting_for

IDLE = ThreadState.IDLE
PENDING = ThreadState.PENDING
ACTIVE = ThreadState.ACTIVE
RETRYING = ThreadState.RETRYING
HELD = ThreadState.HELD
PARKED = ThreadState.PARKED

_V = ExplanationVerdict

THREADS = ("a", "b:🙂")
WINDOWS = (
    Window(delay_ms=0),
    Window(delay_ms=3000),
    Window(delay_ms=2000, max_batch=3),
    Window(delay_ms=1500, kind="sliding", max_wait_ms=4000),
    Window(delay_ms=2500, max_chars=12),
    Window(delay_ms=1500, kind="adaptive", max_wait_ms=4000),
    Window(delay_ms=3000, hold_ms=2200),
    Window(delay_ms=1000, max_batch=2, hold_ms=2200),
    Window(delay_ms=1000, hold_ms=40_000),
)
LEASE_S = 10.0
PICKS = st.integers(0, 3)
"""Index into a list, counted from the newest entry: new entries are the likeliest to fail."""
LOOKS = frozenset({"wake", "overdue", "watch"})
"""Scripts that look at what is due now, whenever they are called."""
MOST_ENTRIES = 3
"""Entries of a journal."""
MOST_HOLDERS = 9
"""Tokens that a thread remembers: the eight of `past`, and `last`."""
MOST_PENDING = 6
STRENGTH = {"": 0, Wish.STEER: 1, Wish.INTERRUPT: 2, Wish.STOP: 3}
TAKES = (1, 2, 3, 1000)
"""Messages of one batch at most: the small ones leave others, and places of cancelled ones, behind
the cut."""


FIRST_SEND = first_send_of(
    Capabilities(found_by=FoundBy.NOT_AT_ALL, stateless=True), Rules(), "a worker"
)
"""Of a provider that keeps nothing: any batch may be sent at once."""


def sent_at(now_ms: int) -> str:
    """Return the progress of a batch that its claim has marked as sent."""
    return Progress(
        attempts=1,
        sent_ms=now_ms,
        run_sent_ms=now_ms,
        deadline_ms=now_ms + 600_000,
        waiting_since_ms=now_ms,
        passing=True,
        tries=(AttemptRow(number=1, started_ms=now_ms, worker="a worker"),),
    ).dump()


def chosen(values: list[str], pick: int) -> str:
    """One of them; 0 is the newest."""
    return values[-1 - pick % len(values)]


@dataclass
class ModelThread:
    """One thread."""

    state: ThreadState = IDLE
    pending: list[str] = field(default_factory=list)
    batch: list[str] | None = None
    batch_id: str = ""
    phase: Phase = Phase.FROZEN
    token: str | None = None
    last: str | None = None
    until: int = 0
    claimed: int = 0
    since: int = 0
    due: int = 0
    first: int = 0
    own_due: int | None = None
    deaths: int = 0
    paused: bool = False
    person: str = ""
    spoken: str = ""
    progress: str | None = None
    holders: list[str] = field(default_factory=list)
    chars: int | None = None
    pace: ThreadPace | None = None
    journal: list[tuple[str, str]] = field(default_factory=list)
    wish: str = ""
    stale: str = ""
    revisions: dict[str, str | None] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    run: str = ""

    @property
    def is_spoken(self) -> bool:
        """Whether a reply waits that a person has said."""
        return self.spoken in self.pending

    @property
    def is_kept_back(self) -> bool:
        """Whether nothing of the thread may be claimed."""
        if not self.person:
            return self.paused
        return not (self.is_spoken or self.batch is not None)

    @property
    def wanted(self) -> str:
        """The wish for the batch, unless it has stored results."""
        return "" if self.phase is Phase.DELIVERING else self.wish

    @property
    def is_stopping(self) -> bool:
        return self.wanted == Wish.STOP

    def held(self, window: Window, due: int, *, now: int, first: int, chars: int) -> int:
        """Return the ms at which the thread is due after one more message, with its hold."""
        is_over = bool(self.pending) and (self.own_due or 0) <= now
        is_full = window.is_full(len(self.pending) + 1, chars)
        if not window.hold_ms or is_full or (is_over and self.batch is None):
            return due
        return kept_open(window, due, now_ms=now, first_ms=first)

    def clear_batch(self) -> None:
        self.batch = None
        self.batch_id = ""
        self.token = None
        self.phase = Phase.FROZEN
        self.deaths = 0
        self.progress = None
        self.since = 0
        self.wish = self.stale = ""
        self.revisions = {}
        self.calls = {}
        self.run = ""

    def end(self, outcome: str, now: int, token: str) -> None:
        """Leave an entry of the journal; finish or stay pending."""
        self.journal.append((self.batch_id, outcome))
        self.clear_batch()
        if self.pending:
            self.state = PENDING
            self.due = max(now, self.own_due or now)
            self.last = token
        else:
            self.state = IDLE
            self.last = None
            self.chars = None


@dataclass
class Record:
    """The outcome of a batch."""

    thread: str
    state: str
    token: str
    messages: list[str]


class StoreMachine(RuleBasedStateMachine):
    """Producers, workers that may die or be late, sweepers and an operator, under a fake clock."""

    make_rig: Callable[[], Rig]

    def __init__(self) -> None:
        super().__init__()
        self.rig = type(self).make_rig()
        self.rig.namespace = Namespace(
            self.rig.prefix,
            self.rig.clock,
            journal=JournalRules(most=MOST_ENTRIES),
            poll_rate=1e9,  # its pace has its own tests
        )
        # A reader of all events: no copy of a call may publish one again.
        self.rig.run(event_log.listen(self.rig.namespace, event_log.ALL_THREADS))
        self.threads = {thread: ModelThread() for thread in THREADS}
        self.messages: dict[str, tuple[str, str]] = {}
        self.chars: dict[str, int] = {}
        self.records: dict[str, Record] = {}
        self.completed: list[str] = []
        self.cancelled: set[str] = set()
        self.quiet: set[str] = set()
        self.said: set[str] = set()
        self.queue_paused = False
        self.was_set_back = False
        self.leases: list[Lease] = []
        self.runs: list[rq_jobs.JobRun] = []
        self.numbers = itertools.count(1)
        self.strays: dict[str, str] = {}
        self.counted: Counter[str] = Counter()
        self.calls: dict[str, str] = {}
        self.in_the_air: dict[str, str] = {}
        self.early: set[str] = set()
        self.webhooks_came = False
        self.listed: Any = None
        """Keys of the failed list, as it was read last."""

    @property
    def now(self) -> int:
        return self.rig.clock.ms

    # --- producers --------------------------------------------------------------------------------

    @rule(
        thread=st.sampled_from(THREADS),
        window=st.sampled_from(WINDOWS),
        after_run=st.sampled_from(["immediate", "window"]),
        limited=st.booleans(),
        wants_reply=st.sampled_from([True, True, True, False]),
        mid_run=st.sampled_from(["collect", "collect", "reject", "interrupt", "steer"]),
    )
    def add(
        self,
        *,
        thread: str,
        window: Window,
        after_run: str,
        limited: bool,
        wants_reply: bool = True,
        mid_run: str = "collect",
    ) -> None:
        model = self.threads[thread]
        message = f"m{next(self.numbers)}"
        if mid_run == "reject" and wants_reply and model.batch is not None:
            try:
                self.rig.add(thread, message, window=window, mid_run=mid_run)
            except ThreadBusy:
                return
            raise AssertionError("a busy thread took a message")
        if not wants_reply:
            self.quiet.add(message)
        before = model.own_due if model.pending else None
        opens = before is None or (wants_reply and is_never(before))
        if limited and len(model.pending) >= MOST_PENDING and not (opens and wants_reply):
            try:
                self.rig.add(
                    thread,
                    message,
                    window=window,
                    max_pending=MOST_PENDING,
                    wants_reply=wants_reply,
                )
            except ThreadFull:
                return
            raise AssertionError("a full thread took a message")
        receipt = self.rig.add(
            thread,
            message,
            window=window,
            after_run=after_run,
            max_pending=MOST_PENDING if limited else 0,
            wants_reply=wants_reply,
            mid_run=mid_run,
        )
        assert not receipt.duplicate
        now = self.now
        first = now if opens else model.first
        chars = len("hello") + (model.chars or 0 if model.pending else 0)
        if window.max_chars:
            model.chars = chars
            self.chars[message] = len("hello")
        if window.kind == "adaptive" and wants_reply:
            window, model.pace = adapted(
                window, model.pace, now_ms=now, is_burst=not opens or model.batch is not None
            )
        if (
            wants_reply
            and model.batch is not None
            and after_run == "immediate"
            and not (before is not None and before <= now)
        ):
            due = now
        else:
            due = due_at(
                window,
                now_ms=now,
                first_ms=first,
                count=len(model.pending) + 1,
                previous_due_ms=before,
                wants_reply=wants_reply,
                chars=chars,
            )
        due = max(due, first)
        due = model.held(window, due, now=now, first=first, chars=chars) if wants_reply else due
        self._want(model, mid_run if wants_reply and not model.person else "")
        model.pending.append(message)
        model.first = first
        model.own_due = due
        if model.batch is None:
            model.state = PENDING
            model.due = due
        self.messages[message] = (thread, "hello")
        assert round(receipt.due_at.timestamp() * 1000) == due

    def _want(self, model: ModelThread, wish: str) -> None:
        is_open = model.batch is not None and model.phase is not Phase.DELIVERING
        if is_open and STRENGTH.get(wish, 0) > STRENGTH[model.wish]:
            model.wish = wish
            if wish == Wish.INTERRUPT and model.state is PARKED:
                model.due = self.now

    def _is_answered(self, model: ModelThread) -> bool:
        """Return whether the batch has a message that wants a reply."""
        return bool(set(model.batch or []) - self.quiet - self.said)

    @rule(thread=st.sampled_from(THREADS))
    def stop(self, thread: str) -> None:
        model = self.threads[thread]
        is_one = model.phase is not Phase.DELIVERING and self._is_answered(model)
        assert self.rig.stop(thread) is is_one
        if is_one:
            self._want_stop(model)

    def _want_stop(self, model: ModelThread) -> None:
        self._want(model, Wish.STOP)
        if model.token is None:
            model.due = self.now

    @precondition(lambda self: self.messages)
    @rule(pick=PICKS, removes=st.booleans())
    def revise(self, pick: int, removes: bool) -> None:
        """A message of a batch that is under way is edited or removed."""
        message = chosen(list(self.messages), pick)
        model = self.threads[self.messages[message][0]]
        is_open = model.phase is not Phase.DELIVERING and message in (model.batch or [])
        if is_open and not self._is_answered(model):
            return
        content = f"edit {next(self.numbers)}"
        edited = None if removes else Message(id=message, content=content)
        assert self.rig.run(steering.revise(self.rig.namespace, message, edited)) is is_open
        if not is_open:
            return
        if removes and not set(model.batch or []) - self.quiet - self.said - {message}:
            self._want_stop(model)
            return
        model.revisions[message] = None if removes else content
        self._want(model, Wish.INTERRUPT)

    @precondition(lambda self: self.messages)
    @rule(pick=PICKS, wish=st.sampled_from([Wish.INTERRUPT, Wish.STEER]))
    def promote(self, pick: int, wish: Wish) -> None:
        message = chosen(list(self.messages), pick)
        model = self.threads[self.messages[message][0]]
        waits = message in model.pending and message not in self.said
        is_open = model.batch is not None and model.phase is not Phase.DELIVERING
        found = self.rig.run(steering.promote(self.rig.namespace, message, wish))
        assert found is (waits and is_open and not model.person)
        if found:
            self._want(model, wish)

    @rule(thread=st.sampled_from(THREADS))
    def a_wish_for_an_earlier_batch_is_left(self, thread: str) -> None:
        """As a worker of version 0.1 leaves it, which does not know the field."""
        model = self.threads[thread]
        if model.state is not IDLE and not model.wish:
            model.stale = "stop batch00000000000"
            self.rig.client.hset(self.rig.keys.thread(thread), "wish", model.stale)

    @rule(thread=st.sampled_from(THREADS))
    def say(self, thread: str) -> None:
        """A reply, which is shown at once; here only its place among the messages matters."""
        model = self.threads[thread]
        message = f"s{next(self.numbers)}"
        note = f"note{next(self.numbers)}"
        self.rig.say(thread, message_id=message, batch_id=note, kind="reply")
        model.journal.append((note, "said"))
        self.said.add(message)
        self.counted["said"] += 1
        self.messages[message] = (thread, "hello")
        if not model.pending or is_never(model.own_due or 0):
            model.first = model.own_due = self.now
        if model.person:
            model.own_due = self.now
            model.spoken = message
        model.pending.append(message)
        if model.batch is None:
            model.state = PENDING
            model.due = model.own_due or 0

    @rule(
        thread=st.sampled_from(THREADS),
        by=st.sampled_from(["Jo", "Ann"]),
        instead=st.booleans(),
        stops=st.booleans(),
    )
    def take_over(self, thread: str, by: str, instead: bool, stops: bool) -> None:
        model = self.threads[thread]
        before = model.person
        try:
            taken = self.rig.take_over(
                by, thread, instead_of=before or None if instead else None, stops=stops
            )
        except ThreadTakenOver as error:
            known = (error.by, before in {"", by}, instead)
            if known != (before, False, False):
                raise AssertionError("a person was refused") from error
            return
        assert taken is (before != by)
        assert before in {"", by} or instead, "another person was replaced"
        if not taken:
            return
        self.counted["p:taken_over"] += 1
        was_paused = model.paused and not before
        model.person = by
        if stops and model.phase is not Phase.DELIVERING and self._is_answered(model):
            self._want_stop(model)
        elif was_paused and model.batch is not None:
            self._set_back(thread, model)

    @rule(thread=st.sampled_from(THREADS))
    def hand_back(self, thread: str) -> None:
        model = self.threads[thread]
        if model.person and not model.paused:
            self._set_back(thread, model)
        assert self.rig.hand_back(thread) is bool(model.person)
        self.counted["p:handed_back"] += bool(model.person)
        model.person = ""

    @rule(thread=st.sampled_from(THREADS), count=st.integers(2, 4))
    def several_come_at_once(self, thread: str, count: int) -> None:
        for _ in range(count):
            self.add(thread=thread, window=WINDOWS[0], after_run="immediate", limited=False)

    @precondition(lambda self: self.messages.keys() - self.said)
    @rule(pick=PICKS, same=st.booleans())
    def add_again(self, pick: int, same: bool) -> None:
        message = chosen([one for one in self.messages if one not in self.said], pick)
        thread, content = self.messages[message]
        if same:
            assert self.rig.add(thread, message, content).duplicate
            self.counted["duplicates"] += 1
            return
        try:
            self.rig.add(thread, message, "something else")
        except MessageIdConflict:
            return
        raise AssertionError("two messages have one id")

    @precondition(lambda self: self.messages)
    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        self._cancel(chosen(list(self.messages), pick))

    @rule(thread=st.sampled_from(THREADS), places=st.sets(st.integers(0, 7), min_size=1))
    def several_are_cancelled(self, thread: str, places: set[int]) -> None:
        """In front, in the middle, at the end: those that wait at these places."""
        for message in [
            one for place, one in enumerate(self.threads[thread].pending) if place in places
        ]:
            self._cancel(message)

    def _cancel(self, message: str) -> None:
        thread = self.threads[self.messages[message][0]]
        waits = message in thread.pending and message not in self.said
        assert self.rig.run(control.cancel(self.rig.namespace, message, 3600)) is waits
        if waits:
            thread.pending.remove(message)
            self.cancelled.add(message)
            self._count_chars(thread, message, 0)
            self.counted["cancelled"] += 1
            if not thread.pending and thread.batch is None:
                thread.state = IDLE
                thread.last = thread.chars = None
            elif thread.pending and message not in self.quiet and not self.any_wants(thread):
                thread.own_due = NEVER_MS
                if thread.batch is None:
                    thread.due = NEVER_MS

    def _count_chars(self, thread: ModelThread, message: str, length: int) -> None:
        if thread.chars is not None:
            thread.chars = max(thread.chars + length - self.chars.get(message, 0), 0)

    def any_wants(self, thread: ModelThread) -> bool:
        """Return whether a waiting message wants a reply."""
        return not self.quiet.issuperset(thread.pending)

    @precondition(lambda self: self.messages)
    @rule(pick=PICKS)
    def edit(self, pick: int) -> None:
        self._edit(chosen(list(self.messages), pick))

    @rule(thread=st.sampled_from(THREADS), place=st.integers(0, 7))
    def a_waiting_one_is_edited(self, thread: str, place: int) -> None:
        pending = self.threads[thread].pending
        if pending:
            self._edit(pending[place % len(pending)])

    def _edit(self, message: str) -> None:
        thread, content = self.messages[message]
        waits = message in self.threads[thread].pending and message not in self.said
        edited = f"edit {next(self.numbers)}"
        assert (
            self.rig.run(control.edit(self.rig.namespace, Message(id=message, content=edited)))
            is waits
        )
        self.messages[message] = (thread, edited if waits else content)
        if waits and self.threads[thread].chars is not None:
            self._count_chars(self.threads[thread], message, len(edited))
            self.chars[message] = len(edited)

    @rule(thread=st.sampled_from(THREADS))
    def flush(self, thread: str) -> None:
        model = self.threads[thread]
        waits = bool(model.pending) and not is_never(model.own_due or 0)
        assert self.rig.run(control.flush(self.rig.namespace, thread)) is waits
        if waits and model.own_due is not None and model.own_due > self.now:
            model.own_due = self.now
            if model.batch is None:
                model.due = self.now

    # --- time, RQ, sweepers -----------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.001, 0.4, 1.0, 1.6, 3.0, LEASE_S, LEASE_S + 2]))
    def time_passes(self, seconds: float) -> None:
        self.rig.clock.advance(seconds)

    @rule(seconds=st.sampled_from([60.0, 3600.0]))
    def the_clock_of_redis_is_set_back(self, seconds: float) -> None:
        """A scheduler rewinds the threads; a paused thread is rewound when it is resumed."""
        self.rig.clock.ms -= round(seconds * 1000)
        self.was_set_back = True
        looked_at = self.rig.due()
        for thread, model in self.threads.items():
            if thread in looked_at:
                self._set_back(thread, model)
        self.rig.run(sweeping.rewind(self.rig.namespace))

    def _set_back(self, thread: str, model: ModelThread) -> None:
        fields = self.rig.thread_hash(thread)
        if model.state is IDLE:
            return
        back = {"first": model.first - self.now, "since": model.since - self.now}
        others = max(int(fields.get(name, 0)) for name in ("claimed", "queued")) - self.now
        if max(*back.values(), others) <= 0:
            return

        def moved(at: int, by: int, *, was_due: bool = False) -> int:
            if at <= self.now or by <= 0 or is_never(at):
                return at
            return self.now if was_due else max(at - by, self.now)

        is_due = fields.get("pk") == "waiting"
        model.first = min(model.first, self.now)
        model.claimed = min(model.claimed, self.now)
        model.since = min(model.since, self.now)
        model.due = moved(
            model.due,
            back["first" if model.state is PENDING else "since"],
            was_due=fields.get("bk") == "waiting" or (model.state is PENDING and is_due),
        )
        model.until = moved(model.until, back["since"])
        if model.own_due is not None:
            model.own_due = moved(model.own_due, back["first"], was_due=is_due)

    @rule()
    def rq_hands_over_what_is_scheduled(self) -> None:
        self.rig.scheduler()

    @rule()
    def sweep(self) -> None:
        self.rig.sweep()

    @rule()
    def rq_loses_everything(self) -> None:
        self.rig.lose_wakeups()

    # --- workers ----------------------------------------------------------------------------------

    @rule(take=st.sampled_from(TAKES), sends=st.booleans())
    def a_worker_takes_a_wake_up(self, take: int, sends: bool = False) -> None:
        taken = self.rig.take()
        if taken is not None:
            self.claim(taken[0], take=take, job=taken[1], sends=sends)

    @rule(thread=st.sampled_from(THREADS), take=st.sampled_from(TAKES))
    def a_stray_wake_up(self, thread: str, take: int) -> None:
        self.claim(thread, take=take)

    @rule(thread=st.sampled_from(THREADS), take=st.sampled_from(TAKES), sends=st.booleans())
    def a_worker_comes_when_the_thread_is_due(
        self, thread: str, take: int, sends: bool = False
    ) -> None:
        model = self.threads[thread]
        if model.state is not IDLE and model.token is None and not is_never(model.due):
            self.rig.clock.advance(max(0, model.due - self.now) / 1000)
        self.claim(thread, take=take, sends=sends)

    @rule(
        thread=st.sampled_from(THREADS),
        count=st.integers(2, 4),
        places=st.sets(st.integers(0, 7), min_size=1),
        take=st.sampled_from(TAKES),
    )
    def a_worker_comes_after_some_were_cancelled(
        self, thread: str, count: int, places: set[int], take: int
    ) -> None:
        self.several_come_at_once(thread=thread, count=count)
        self.several_are_cancelled(thread=thread, places=places)
        self.a_worker_comes_when_the_thread_is_due(thread=thread, take=take)

    @precondition(lambda self: any(model.token for model in self.threads.values()))
    @rule(is_too_soon=st.booleans())
    def a_worker_is_late_and_another_takes_over(self, is_too_soon: bool) -> None:
        for thread, model in self.threads.items():
            if model.token is not None:
                self.rig.clock.advance(max(0, model.until - self.now - is_too_soon) / 1000)
                self.claim(thread, take=1000)

    def claim(self, thread: str, *, take: int, job: RqJob = NO_JOB, sends: bool = False) -> None:
        """Claim; `sends`: the request follows at once, so that the claim marks it."""
        model = self.threads[thread]
        number = next(self.numbers)
        token = f"token{number:011}"
        batch_id = f"batch{number:011}"
        got = self.rig.try_claim(
            thread,
            token=token,
            batch_id=batch_id,
            lease_s=LEASE_S,
            max_take=take,
            job=job,
            first_send=FIRST_SEND if sends else None,
        )
        expected = self._claim_word(model)
        if job is NO_JOB and (expected != "claimed" or model.batch is not None):
            self.strays[token] = model.batch_id if expected == "claimed" else ""
        if job is not NO_JOB and expected != "claimed":
            self.rig.run(rq_jobs.remove_job(job.id))  # as the runtime does
        if expected != "claimed":
            assert isinstance(got, NoLease), f"expected {expected}, got {got}"
            assert got.reason == expected, model
            if expected == "early":
                assert got.until_ms == model.due
            return
        assert isinstance(got, Lease), f"expected a lease, got {got}"
        assert got.is_sending == (sends and model.batch is None)
        if model.batch is None:
            self._freeze(model, batch_id, take)
        elif model.token is not None:
            model.deaths += 1
            self.counted["takeovers"] += 1
        model.holders.append(token)
        model.state = ACTIVE
        model.run = ""
        model.token = token
        model.until = self.now + round(LEASE_S * 1000)
        model.since = self.now
        assert model.batch is not None
        self._is_as_expected(got, model)
        model.claimed = got.claimed.claimed_ms
        self.leases.append(got)
        if job is not NO_JOB:
            self.runs.append(
                rq_jobs.JobRun(
                    job=job, token=token, thread_id=thread, began_ms=self.now, began="", began_s=0
                )
            )

    def _freeze(self, model: ModelThread, batch_id: str, take: int) -> None:
        if model.is_spoken:
            count = self._spoken_size(model)
            self.quiet |= set(model.pending[:count]) - self.said
        else:
            count = self._batch_size(model.pending, take)
        model.batch, model.pending = model.pending[:count], model.pending[count:]
        model.batch_id = batch_id
        model.phase = Phase.FROZEN
        model.progress = ""
        model.first = model.own_due = self.now
        model.chars = None
        if model.pending and not self.any_wants(model):
            model.own_due = NEVER_MS

    def _is_as_expected(self, got: Lease, model: ModelThread) -> None:
        assert model.batch is not None
        taken = (
            []
            if model.phase is Phase.DELIVERING
            else [
                (message, self.messages[message][1], message not in self.quiet | self.said)
                for message in model.batch
            ]
        )
        found = got.claimed.batch.messages
        assert [(one.id, one.content, one.wants_reply) for one in found] == taken
        assert (got.claimed.batch.id, got.claimed.phase) == (model.batch_id, model.phase)
        if got.is_sending:
            assert got.claimed.progress == Progress()
            model.phase = Phase.SENDING
            model.progress = sent_at(self.now)
        elif model.progress is not None:
            assert got.claimed.progress == Progress.load(model.progress)
        assert (got.claimed.deaths, got.until_ms) == (model.deaths, model.until)
        assert (got.claimed.wish or "") == model.wanted

    def _spoken_size(self, model: ModelThread) -> int:
        """Return how many messages a batch has that a person answers: up to what was said first."""
        return min(place for place, one in enumerate(model.pending, 1) if one in self.said)

    def _batch_size(self, pending: list[str], take: int) -> int:
        """Return how many messages a batch has: `take` that want a reply, up to what was said."""
        wanted = 0
        for place, message in enumerate(pending):
            if message in self.said:
                return place if wanted else place + 1
            wanted += message not in self.quiet
            if wanted == take:
                return place + 1
        return len(pending)

    @precondition(lambda self: self.runs)
    @rule()
    def rq_is_shown_what_runs(self) -> None:
        """Those that have ended, too: their records must not return."""
        self.rig.run(rq_jobs.write_books(self.rig.namespace, self.runs, [], None, LEASE_S))

    # --- copies -----------------------------------------------------------------------------------

    @precondition(lambda self: self.rig.sent)
    @rule(pick=st.one_of(st.integers(0, 8), st.integers(0, 400)))
    def a_copy_of_any_call_arrives(self, pick: int) -> None:
        """At once, after a lost reply, or much later, when no caller waits for the reply."""
        self._again(self.rig.sent[-1 - pick % len(self.rig.sent)])

    def copies_arrive(self, name: str) -> None:
        """Send all calls of a script again, the oldest last: none may undo a later one."""
        before = self.rig.snapshot()
        for call in reversed(
            [call for call in self.rig.sent if call.script is not None and call.script.name == name]
        ):
            self._again(call, looks=False)
        assert name == "renew" or self.rig.snapshot() == before, (
            f"a copy of {name} changed something"
        )

    def _again(self, call: Call, *, looks: bool = True) -> None:
        assert call.script is not None
        said = dict(zip(call.script.args, call.words, strict=True))
        name = call.script.name
        model = self.threads.get(call.thread_id, ModelThread())
        token = said.get("token")
        if name == "claim" and self._is_a_stray(token, model):
            return  # as `a_stray_wake_up`, and `a_worker_dies` at once
        if name == "hear" and looks:
            return  # a note that comes late costs a look: `a_webhook_comes`
        before = self.rig.snapshot() if looks else None
        self.rig.again(call)
        if name == "renew" and token == model.token:
            model.until = self.now + round(LEASE_S * 1000)  # it ends by itself all the same
            model.since = self.now
        elif looks and name not in LOOKS:
            assert self.rig.snapshot() == before, f"a copy of {name} changed something"

    def _is_a_stray(self, token: object, model: ModelThread) -> bool:
        """Return whether a claim without a job may succeed when its copy arrives.

        It was refused, or continued a batch that is over since, or one that more workers have held
        since than are stored.
        """
        continued = self.strays.get(str(token))
        return continued is not None and not (
            continued and continued == model.batch_id and token in model.holders[-MOST_HOLDERS:]
        )

    def _claim_word(self, model: ModelThread) -> str:
        if model.state is IDLE:
            return "idle"
        if (model.is_kept_back or self.queue_paused) and not model.is_stopping:
            return "paused"
        if model.token is not None:
            return "refused" if model.until > self.now else "claimed"
        if model.batch is None and is_never(model.due):
            return "idle"
        return "early" if model.due > self.now else "claimed"

    def _lease(self, pick: int) -> tuple[int, Lease, ModelThread, bool]:
        """Return any lease that a worker still believes in, and whether it is the current one."""
        place = len(self.leases) - 1 - pick % len(self.leases)
        lease = self.leases[place]
        model = self.threads[lease.thread_id]
        return place, lease, model, model.token == lease.token

    def _attempt(self, act: Callable[[], object], *, held: bool) -> bool:
        try:
            act()
        except LeaseLost:
            assert not held, "the holder was refused"
            return False
        assert held, "somebody wrote who does not hold the lease"
        return True

    some_lease = precondition(lambda self: self.leases)

    @some_lease
    @rule(pick=PICKS)
    def a_worker_dies(self, pick: int) -> None:
        del self.leases[len(self.leases) - 1 - pick % len(self.leases)]

    @some_lease
    @rule(pick=PICKS)
    def renew(self, pick: int) -> None:
        _, lease, model, held = self._lease(pick)
        renewed = self.rig.renew(lease, LEASE_S)
        assert (renewed is not None) is held
        if renewed is not None:
            model.until = self.now + round(LEASE_S * 1000)
            model.since = self.now
            assert renewed.until_ms == model.until
            assert (renewed.wish or "") == model.wanted

    def _progress(self, model: ModelThread, *new: OpenCall, **fields: Any) -> Progress:
        """Progress that was not stored before, with the calls that were asked for."""
        known = [one for one, state in model.calls.items() if state != "closed"]
        calls = {one: self.rig.open_call(one) for one in known} | {one.id: one for one in new}
        waits = waiting_for(*calls.values()).waits
        return Progress(sent_ms=next(self.numbers), waits=waits, **fields)

    @some_lease
    @rule(pick=PICKS, phase=st.sampled_from([Phase.FROZEN, Phase.SENDING, Phase.RUNNING]))
    def save(self, pick: int, phase: Phase) -> None:
        _, lease, model, held = self._lease(pick)
        if held and model.phase is Phase.DELIVERING:
            return
        marks = model.batch or [] if held else []
        progress = self._progress(model)
        saved: list[Saved] = []
        if self._attempt(
            lambda: saved.append(self.rig.save(lease, phase, progress, marks)), held=held
        ):
            assert (saved[0].wish or "") == model.wanted
            model.phase = phase
            model.deaths = 0
            model.progress = progress.dump()

    @some_lease
    @rule(pick=PICKS, keep=st.integers(1, 3))
    def trim(self, pick: int, keep: int) -> None:
        place, lease, model, held = self._lease(pick)
        if held and model.phase is not Phase.FROZEN and not lease.is_sending:
            return
        if self._attempt(lambda: self.rig.trim(lease, keep), held=held):
            assert model.batch is not None
            back = model.batch[keep:]
            if back:
                model.batch = model.batch[:keep]
                back = [message for message in back if self._is_made(model, message)]
            if back:
                is_due = bool(model.pending) and not is_never(model.own_due or 0)
                is_due = is_due or not self.quiet.issuperset(back)
                model.pending = back + model.pending
                model.first = model.claimed
                model.own_due = self.now if is_due else NEVER_MS
            if len(lease.claimed.batch.messages) > keep:
                kept = replace(lease.claimed.batch, messages=lease.claimed.batch.messages[:keep])
                self.leases[place] = replace(lease, claimed=replace(lease.claimed, batch=kept))

    def _is_made(self, model: ModelThread, message: str) -> bool:
        """Make the revision of a message; return whether the message is left."""
        if message not in model.revisions:
            return True
        content = model.revisions.pop(message)
        if content is None:
            self.cancelled.add(message)
            self.counted["cancelled"] += 1
            return False
        self.messages[message] = (self.messages[message][0], content)
        return True

    @some_lease
    @rule(pick=PICKS)
    def complete(self, pick: int) -> None:
        _, lease, model, held = self._lease(pick)
        if held and not lease.claimed.batch.messages:
            return
        if (
            self._attempt(lambda: self.rig.complete(lease), held=held)
            and model.phase is not Phase.DELIVERING
        ):
            assert model.batch is not None
            self.completed += model.batch
            self.records[model.batch_id] = Record(
                lease.thread_id, "completed", lease.token, model.batch
            )
            model.phase = Phase.DELIVERING
            model.deaths = 0
            model.progress = None

    @some_lease
    @rule(pick=PICKS, seen=st.booleans())
    def finish(self, pick: int, seen: bool = False) -> None:
        _, lease, model, held = self._lease(pick)
        record = self.records.get(lease.claimed.batch.id)
        if not held and record is not None and record.token == lease.token:
            assert self.rig.finish(lease) is bool(
                model.pending
            )  # the same call again changes nothing
            return
        if held and model.is_stopping and not seen:
            self._is_to_stop(lambda: self.rig.finish(lease))
            return
        wish = Wish.STOP if seen else None
        if self._attempt(lambda: self.rig.finish(lease, seen=wish), held=held):
            if model.phase is not Phase.DELIVERING:
                assert model.batch is not None
                self._count_end(model.batch, "answered", "completed", runs=1)
                self.completed += model.batch
                self.records[model.batch_id] = Record(
                    lease.thread_id, "completed", lease.token, model.batch
                )
            else:
                self.records[model.batch_id].token = lease.token
            model.end("completed", self.now, lease.token)

    def _is_to_stop(self, act: Callable[[], object]) -> None:
        """Assert that an end is refused because of a stop that it does not know."""
        try:
            act()
        except Wished:
            return
        raise AssertionError("a batch ended that was to be stopped")

    @some_lease
    @rule(pick=PICKS)
    def stopped(self, pick: int) -> None:
        _, lease, model, held = self._lease(pick)
        if held and not model.is_stopping:
            return
        record = self.records.get(lease.claimed.batch.id)
        if not held and record is not None and record.token == lease.token:
            self.rig.stopped(lease)  # the same call again changes nothing
            return
        if self._attempt(lambda: self.rig.stopped(lease), held=held):
            assert model.batch is not None
            self.cancelled.update(model.batch)
            self.counted["cancelled"] += len(model.batch)
            self.counted["b:stopped"] += 1
            for name in ("w", "q", "r"):
                self.counted[f"h:{name}"] += 1
            self.records[model.batch_id] = Record(
                lease.thread_id, "stopped", lease.token, model.batch
            )
            model.end("stopped", self.now, lease.token)

    @some_lease
    @rule(
        pick=PICKS,
        most=st.sampled_from(TAKES),
        phase=st.sampled_from([Phase.FROZEN, Phase.SENDING, Phase.RUNNING]),
        event=st.sampled_from(["run_interrupted", "message_steered"]),
        most_chars=st.sampled_from([None, None, 12, 24]),
    )
    def join(
        self,
        pick: int,
        most: int = 1000,
        phase: Phase = Phase.FROZEN,
        event: str = "run_interrupted",
        most_chars: int | None = None,
    ) -> None:
        place, lease, model, held = self._lease(pick)
        if held and (model.phase is Phase.DELIVERING or not self._is_answered(model)):
            return
        progress = self._progress(model)
        got: list[tuple[Lease, Wish | None]] = []
        if not self._attempt(
            lambda: got.append(
                self.rig.join(lease, phase, progress, most=most, event=event, most_chars=most_chars)
            ),
            held=held,
        ):
            return
        assert model.batch is not None
        model.phase = phase
        model.deaths = 0
        model.progress = progress.dump()
        model.wish = Wish.STOP if model.is_stopping else ""
        count, reason = self._join_size(model, most, most_chars)
        is_one_left = bool(set(model.pending[count:]) - self.quiet - self.said)
        assert self._refusal() == (reason if is_one_left else ""), "a refusal is not published"
        model.batch = model.batch + model.pending[:count]
        model.pending = model.pending[count:]
        if count and not model.pending:
            model.chars = None
        elif count and not self.any_wants(model):
            model.own_due = NEVER_MS
        self.leases[place], left = got[0]
        assert (left or "") == model.wish
        assert [
            (message.id, message.content) for message in self.leases[place].claimed.batch.messages
        ] == [(message, self.messages[message][1]) for message in model.batch]

    @some_lease
    @rule(pick=PICKS)
    def make_revisions(self, pick: int) -> None:
        """The holder edits and removes what it was asked to."""
        place, lease, model, held = self._lease(pick)
        if held and (model.phase is Phase.DELIVERING or not self._is_answered(model)):
            return
        found, count = self.rig.run(batch_changes.read_revisions(self.rig.namespace, lease))
        batch = lease.claimed.batch
        revised = [found.get(message.id, message) for message in batch.messages]
        messages = tuple(message for message in revised if message is not None)
        if held and not messages:
            return
        progress = self._progress(model)
        if not self._attempt(
            lambda: self.rig.run(
                batch_changes.make_revisions(
                    self.rig.namespace,
                    lease,
                    model.phase,
                    progress,
                    messages=messages,
                    revisions=found,
                    count=count,
                    result_ttl_s=3600,
                )
            ),
            held=held,
        ):
            return
        model.deaths = 0
        model.progress = progress.dump()
        assert model.batch is not None
        assert {name: one and one.content for name, one in found.items()} == model.revisions, (
            "a revision is lost"
        )
        model.batch = [one for one in model.batch if self._is_made(model, one)]
        kept = replace(batch, messages=messages)
        self.leases[place] = replace(lease, claimed=replace(lease.claimed, batch=kept))

    def _join_size(self, model: ModelThread, most: int, most_chars: int | None) -> tuple[int, str]:
        """Return how many messages join, and what keeps the next one from it.

        Up to `most` that want a reply, up to what was said, up to so many characters.
        """
        if model.person or model.is_spoken or not model.pending:
            return 0, ""
        left = most - len(set(model.batch or []) - self.quiet - self.said)
        if left < 1:
            return 0, "max_batch_size"
        count = len(model.pending)
        reason = ""
        for place, message in enumerate(model.pending):
            if message in self.said:
                count = place
                reason = "say"
                break
            left -= message not in self.quiet
            if not left:
                count = place + 1
                reason = "max_batch_size"
                break
        chars = sum(len(self.messages[one][1]) for one in model.batch or [])
        for place, message in enumerate(model.pending[:count]):
            chars += len(self.messages[message][1])
            if most_chars is not None and chars > most_chars:
                return place, "max_batch_chars"
        return count, reason

    def _refusal(self) -> str:
        """Return why the newest event refuses an interruption; "" if it does not."""
        ((_, event),) = self.rig.client.xrevrange(self.rig.keys.feed, count=1)
        if event[b"type"] != b"interrupt_refused":
            return ""
        return str(json.loads(event[b"data"])["reason"])

    @some_lease
    @rule(pick=PICKS)
    def refuse(self, pick: int) -> None:
        _, lease, model, held = self._lease(pick)
        if (
            self._attempt(lambda: self.rig.refuse(lease), held=held)
            and model.wanted == Wish.INTERRUPT
        ):
            model.wish = ""

    @some_lease
    @rule(
        pick=PICKS,
        state=st.sampled_from([RETRYING, HELD]),
        wait_s=st.sampled_from([0.0, 2.0, 7.0]),
        seen=st.booleans(),
    )
    def postpone(self, pick: int, state: ThreadState, wait_s: float, seen: bool = False) -> None:
        _, lease, model, held = self._lease(pick)
        if not held and model.token is None and model.last == lease.token:
            self.rig.postpone(lease, state, wait_s)  # the same call again changes nothing
            return
        phase = model.phase
        wish = Wish.STOP if seen else None
        progress = self._progress(model, attempts=1, error=ERROR)
        if self._attempt(
            lambda: self.rig.postpone(lease, state, wait_s, phase, progress, seen=wish), held=held
        ):
            self._count_error()
            model.state = state
            is_unseen = model.is_stopping and not seen
            model.due = self.now + (0 if is_unseen else round(wait_s * 1000))
            model.since = self.now
            model.token = None
            model.last = lease.token
            model.deaths = 0
            model.progress = None

    @some_lease
    @rule(
        pick=PICKS,
        count=st.integers(0, 2),
        wait_s=st.sampled_from([0.0, 2.0, 7.0]),
        seen=st.sampled_from([None, Wish.STOP, Wish.INTERRUPT]),
    )
    def park(self, pick: int, count: int, wait_s: float, seen: Wish | None = None) -> None:
        """The batch waits for `count` calls of tools, or for its run at the provider."""
        _, lease, model, held = self._lease(pick)
        batch_id = lease.claimed.batch.id
        ids = [f"{batch_id}-{number}" for number in range(count)]
        # A round waits for all of its open calls, each time.
        ids += [one for one, state in model.calls.items() if state == "open" and one not in ids]
        calls = [self.rig.open_call(one) for one in ids if model.calls.get(one) != "closed"]
        new = [call.id for call in calls if call.id not in model.calls]
        if not held and model.token is None and model.last == lease.token:
            self.rig.park(lease, *calls)  # the same call again changes nothing
            return
        phase = model.phase
        progress = self._progress(model, *calls)
        if phase is Phase.DELIVERING or not self._attempt(
            lambda: self.rig.park(
                lease,
                *calls,
                wait_s=wait_s,
                phase=phase,
                progress=progress,
                new=len(new),
                seen=seen,
            ),
            held=held,
        ):
            return
        self.counted["a:requested"] += len(new)
        for one in new:
            self.calls[one] = lease.thread_id
            model.calls[one] = "open"
        is_settled = any(model.calls[call.id] == "settled" for call in calls)
        is_wished = model.wanted in {Wish.STOP, Wish.INTERRUPT} and model.wanted != seen
        model.state = PARKED
        model.due = self.now + (0 if is_settled or is_wished else round(wait_s * 1000))
        model.since = self.now
        model.token = None
        model.last = lease.token
        model.deaths = 0
        model.progress = None

    @some_lease
    @rule(
        pick=PICKS,
        wait_s=st.sampled_from([2.0, 7.0]),
        seen=st.sampled_from([None, Wish.STOP, Wish.INTERRUPT]),
    )
    def await_run(self, pick: int, wait_s: float, seen: Wish | None = None) -> None:
        """The batch waits for its run at the provider."""
        _, lease, model, held = self._lease(pick)
        run_id = f"run-{lease.claimed.batch.id}"
        if held and (model.phase is Phase.DELIVERING or "open" in model.calls.values()):
            return
        if not held and model.token is None and model.last == lease.token:
            self.rig.await_run(lease, run_id)  # the same call again changes nothing
            return
        phase = model.phase
        if not self._attempt(
            lambda: self.rig.await_run(lease, run_id, wait_s=wait_s, phase=phase, seen=seen),
            held=held,
        ):
            return
        self.in_the_air[run_id] = lease.thread_id
        wait_ms = max(round(wait_s * 1000), 240_000 if self.webhooks_came else 0)
        if run_id in self.early:
            self.early.discard(run_id)
            wait_ms = 0
        else:
            model.run = run_id
        is_wished = model.wanted in {Wish.STOP, Wish.INTERRUPT} and model.wanted != seen
        model.state = PARKED
        model.due = self.now + (0 if is_wished else wait_ms)
        model.since = self.now
        model.token = None
        model.last = lease.token
        model.deaths = 0
        model.progress = None

    @precondition(lambda self: self.in_the_air or self.leases)
    @rule(pick=PICKS, is_first=st.booleans())
    def a_webhook_comes(self, pick: int, is_first: bool) -> None:
        """It is about a run that a batch waits for, waited for, or is about to wait for."""
        if self.leases and (is_first or not self.in_the_air):
            _, lease, model, _ = self._lease(pick)
            run_id = f"run-{lease.claimed.batch.id}"
        else:
            run_id = chosen(list(self.in_the_air), pick)
            model = self.threads[self.in_the_air[run_id]]
        waits = bool(model.run) and model.run == run_id
        assert self.rig.run_ended(run_id) is waits
        if not waits:
            self.early.add(run_id)
            return
        self.webhooks_came = True
        model.run = ""
        model.due = self.now

    @invariant()
    def the_runs_in_the_air_lead_to_their_threads(self) -> None:
        found = self.rig.hash(self.rig.keys.runs) if self.in_the_air else {}
        expected = {model.run: thread for thread, model in self.threads.items() if model.run}
        assert found == expected

    @precondition(lambda self: self.calls)
    @rule(pick=PICKS)
    def settle(self, pick: int) -> None:
        """A call is approved: the first time, and again, and when its batch is over."""
        call = chosen(list(self.calls), pick)
        model = self.threads[self.calls[call]]
        known = model.calls.get(call)
        try:
            assert self.rig.settle(call) is (known == "open")
        except ApprovalNotFound:
            assert known is None
            return
        if known == "open":
            self.counted["a:approved"] += 1
            model.calls[call] = "settled"
            if model.state is PARKED:
                model.due = self.now

    @some_lease
    @rule(pick=PICKS)
    def close(self, pick: int) -> None:
        """The calls of a batch need no answer any more."""
        _, lease, model, held = self._lease(pick)
        ids = [one for one in self.calls if one.startswith(lease.claimed.batch.id)]
        if self._attempt(lambda: self.rig.close_calls(lease, *ids), held=held):
            model.calls |= dict.fromkeys(model.calls, "closed")

    @invariant()
    def the_open_calls_are_listed(self) -> None:
        if not self.calls:
            return
        for thread, model in self.threads.items():
            expected = [one for one, state in model.calls.items() if state == "open"]
            if model.phase is not Phase.DELIVERING:  # then no progress is left
                assert sorted(self.rig.open_calls(thread_id=thread)) == sorted(expected), thread
                assert sorted(self.rig.asked(thread)) == sorted(expected), thread
        expected = [
            one
            for model in self.threads.values()
            for one, state in model.calls.items()
            if state == "open"
        ]
        assert sorted(self.rig.open_calls()) == sorted(expected)

    @some_lease
    @rule(pick=PICKS, pause=st.sampled_from([False, False, False, True]), seen=st.booleans())
    def bury(self, pick: int, pause: bool, seen: bool = False) -> None:
        _, lease, model, held = self._lease(pick)
        record = self.records.get(lease.claimed.batch.id)
        if held and model.phase is Phase.DELIVERING:
            return
        if not held and record is not None and record.token == lease.token:
            self.rig.bury(lease)  # the same call again changes nothing
            return
        if held and model.is_stopping and not seen:
            self._is_to_stop(lambda: self.rig.bury(lease, pause=pause))
            return
        wish = Wish.STOP if seen else None
        if self._attempt(lambda: self.rig.bury(lease, pause=pause, seen=wish), held=held):
            assert model.batch is not None
            self._count_end(model.batch, "failed", "failed", runs=3)
            self._count_error()
            self.records[model.batch_id] = Record(
                lease.thread_id, "failed", lease.token, model.batch
            )
            model.end("failed", self.now, lease.token)
            model.paused = model.paused or pause

    def _count_end(self, batch: list[str], what: str, outcome: str, *, runs: int) -> None:
        """Count a batch that ends: its messages, its runs, and one of each of its durations."""
        count = len([one for one in batch if one not in self.said])
        if what == "answered":
            self.counted["saved"] += count - 1
        else:
            self.counted["m:failed"] += count
        self.counted[f"b:{outcome}"] += 1
        self.counted["again"] += runs - 1
        for name in ("w", "q", "r", "e"):
            self.counted[f"h:{name}"] += 1

    def _count_error(self) -> None:
        self.counted[f"e:{ERROR.code}"] += 1
        self.counted["n:errors"] = 1

    # --- a person ---------------------------------------------------------------------------------

    def failed_ids(self) -> list[str]:
        return [batch_id for batch_id, record in self.records.items() if record.state == "failed"]

    @precondition(lambda self: self.failed_ids())
    @rule(pick=PICKS)
    def retry_failed(self, pick: int) -> None:
        batch_id = chosen(self.failed_ids(), pick)
        record = self.records.pop(batch_id)
        self.rig.retry_failed(batch_id)
        model = self.threads[record.thread]
        returned = [one for one in record.messages if one in self.said]
        if model.person and returned and not model.is_spoken:
            model.spoken = returned[0]
        model.pending = record.messages + model.pending
        model.first = model.own_due = self.now
        if model.batch is None:
            model.state = PENDING
            model.due = self.now

    @precondition(lambda self: self.failed_ids())
    @rule(pick=PICKS)
    def discard_failed(self, pick: int) -> None:
        batch_id = chosen(self.failed_ids(), pick)
        self.rig.discard_failed(batch_id)
        self.records[batch_id].state = "discarded"
        self.counted["discarded"] += len(self.records[batch_id].messages)

    def settled_ids(self) -> list[str]:
        return [batch_id for batch_id, record in self.records.items() if record.state != "failed"]

    @precondition(lambda self: self.settled_ids())
    @rule(pick=PICKS)
    def retry_what_is_not_in_the_list(self, pick: int) -> None:
        try:
            self.rig.retry_failed(chosen(self.settled_ids(), pick))
        except BatchNotFound:
            return
        raise AssertionError("a batch that is not in the failed list was retried")

    @rule(thread=st.sampled_from(THREADS))
    def pause_or_resume(self, thread: str) -> None:
        model = self.threads[thread]
        if model.paused and not model.person:
            self._set_back(thread, model)
        act = control.resume_thread if model.paused else control.pause_thread
        self.rig.run(act(self.rig.namespace, thread))
        model.paused = not model.paused

    @rule(thread=st.sampled_from(THREADS))
    def resume_what_is_not_paused(self, thread: str) -> None:
        """A thread that a person answers stays that person's."""
        if not self.threads[thread].paused:
            before = self.rig.snapshot()
            self.rig.run(control.resume_thread(self.rig.namespace, thread))
            assert self.rig.snapshot() == before

    @rule(is_long=st.booleans())
    def the_queue_is_paused_or_resumed(self, is_long: bool) -> None:
        act = control.resume_queue if self.queue_paused else control.pause_queue
        self.rig.run(act(self.rig.namespace))
        self.queue_paused = not self.queue_paused
        if self.queue_paused and not is_long:
            self.the_queue_is_paused_or_resumed(is_long=True)

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def every_message_is_in_its_one_place_and_in_order(self) -> None:
        for thread, model in self.threads.items():
            assert [one for one in self.rig.pending(thread) if one] == model.pending, thread
            in_batch = [] if model.batch is None or model.phase is Phase.DELIVERING else model.batch
            assert self.rig.frozen(thread) == in_batch, thread
        for batch_id in self.failed_ids():
            assert self.rig.ids(self.rig.keys.dead(batch_id)) == self.records[batch_id].messages
        self._the_failed_list_agrees()
        assert len(set(self.completed)) == len(self.completed)

    def _the_failed_list_agrees(self) -> None:
        """The list is read by the package's own operation, when what it reads has changed."""
        ids = set(self.failed_ids())
        stored = self.rig.client.zrange(self.rig.keys.failed, 0, -1, withscores=True)
        assert {one.decode() for one, _ in stored} == ids
        read = [stored, *(self.rig.hash(self.rig.keys.record(one)) for one in sorted(ids))]
        if read != self.listed:
            assert {row.batch_id for row in self.rig.failed()} == ids
            self.listed = read

    @invariant()
    def every_thread_that_is_paused_or_a_persons_is_listed(self) -> None:
        listed = self.rig.client.zrange(self.rig.keys.pausing, 0, -1)
        assert {one.decode() for one in listed} == {
            thread for thread, model in self.threads.items() if model.paused or model.person
        }

    @invariant()
    def every_thread_is_in_its_state_and_has_at_most_one_holder(self) -> None:
        for thread, model in self.threads.items():
            fields = self.rig.thread_hash(thread)
            assert self.rig.state(thread) is model.state, thread
            assert fields.get("token") == model.token, thread
            paused = "1" if model.paused else "2" if model.person else None
            assert (fields.get("paused"), fields.get("taken_by", "")) == (paused, model.person)
            wish = f"{model.wish} {model.batch_id}" if model.wish else ""
            assert fields.get("wish", "") in {wish, wish or model.stale}, thread
            if model.token is not None:
                assert int(fields["until"]) == model.until
            elif model.state is not IDLE:
                assert int(fields["due"]) == model.due, thread
            if model.pending:
                assert int(fields["own_due"]) == model.own_due, thread
                chars = None if model.chars is None else str(model.chars)
                assert fields.get("chars") == chars, thread
            if model.batch is not None:
                assert (fields["batch"], fields["phase"]) == (model.batch_id, model.phase), thread
                assert model.progress in (None, fields.get("progress", "")), thread
            if model.batch is not None and model.phase is not Phase.DELIVERING:
                assert bool(fields.get("revisions")) is bool(model.revisions), thread

    @invariant()
    def each_batch_that_ended_left_one_entry_in_order(self) -> None:
        for thread, model in self.threads.items():
            entries = self.rig.client.lrange(self.rig.keys.journal(thread), 0, -1)
            found = load_records(thread, [entry.decode() for entry in entries])
            assert len(found) == len(entries), thread
            assert [(one.batch_id, one.outcome) for one in found[::-1]] == model.journal[
                -MOST_ENTRIES:
            ], thread

    @invariant()
    def counters_are_what_a_scan_would_count(self) -> None:
        self.rig.check()
        counters = dict.fromkeys(COUNTERS, 0)
        unsettled = 0
        for model in self.threads.values():
            unsettled += len(model.pending)
            if model.batch is not None and model.phase is not Phase.DELIVERING:
                if model.state is RETRYING:
                    unsettled += len(model.batch)
                else:
                    name = "parked" if model.state is PARKED else "active"
                    counters[name] += len(model.batch)
        counters["completed"] = len(self.completed)
        counters["failed"] = sum(
            len(self.records[batch_id].messages) for batch_id in self.failed_ids()
        )
        found = self.rig.counters()
        assert found["waiting"] + found["delayed"] == unsettled
        names = ("active", "parked", "completed", "failed")
        assert all(found.get(name, 0) == counters[name] for name in names), (
            found,
            counters,
        )
        assert min(found.values()) >= 0

    @invariant()
    def everything_was_counted_once(self) -> None:
        assert self.rig.counted() == {name: one for name, one in self.counted.items() if one}

    def the_metrics_agree(self) -> None:
        found = self.rig.metrics()
        assert found.messages == {
            "queued": len(self.messages) - len(self.said),
            "answered": self.counted["saved"] + self.counted["b:completed"],
            "failed": self.counted["m:failed"],
            "cancelled": self.counted["cancelled"],
            "deduplicated": self.counted["duplicates"],
        }
        assert found.batches == {
            "completed": self.counted["b:completed"],
            "incomplete": 0,
            "failed": self.counted["b:failed"],
            "stopped": self.counted["b:stopped"],
        }
        ended = sum(found.batches.values())
        assert found.runs == self.counted["again"] + ended
        assert found.takeovers == self.counted["takeovers"]
        changes = ("taken_over", "handed_back")
        assert found.persons == {name: self.counted[f"p:{name}"] for name in changes}
        assert found.errors.get(ERROR.code, 0) == self.counted[f"e:{ERROR.code}"]
        assert found.durations["run"].count == self.counted["h:r"]

    @rule()
    def a_status_is_read_after_a_second(self) -> None:
        self.rig.clock.advance(1)
        self.the_metrics_agree()
        status = self.rig.status()
        due = later = either = 0
        for model in self.threads.values():
            waits = len(model.pending)
            if (
                model.state is RETRYING
                and model.batch is not None
                and model.phase is not Phase.DELIVERING
            ):
                waits += len(model.batch)
            if model.paused or model.person or model.state in (ACTIVE, HELD, PARKED):
                either += waits
            elif model.due <= self.now:
                due += waits
            elif self.queue_paused and self.was_set_back:
                # It may have been due before the clock was set back. Without a wake-up, which a
                # paused queue has not, it stays counted as waiting.
                either += waits
            else:
                later += waits
        assert due <= status.waiting_count <= due + either, "what is due is waiting"
        assert later <= status.delayed_count <= later + either, "what is not is delayed"

    @precondition(lambda self: self.messages)
    @rule(pick=st.integers(0, 40))
    def an_explanation_agrees(self, pick: int) -> None:
        self.explain(chosen(list(self.messages), pick))

    def explain(self, message: str) -> None:
        """The verdict is that of the model's place of the message, and nothing has changed."""
        found = self.rig.run(explaining.explain(self.rig.namespace, message))
        thread = self.messages[message][0]
        assert (found.message_id, found.thread_id) == (message, thread), found
        assert found.verdict in self._verdicts(message, self.threads[thread]), found
        if message in self.threads[thread].pending and message not in self.said:
            is_behind = self.threads[thread].batch is not None
            assert found.evidence.get("is_behind", False) is is_behind, found

    def _verdicts(self, message: str, model: ModelThread) -> set[ExplanationVerdict]:
        if message in self.cancelled:
            return {_V.CANCELLED if self._is_withdrawn(message) else _V.STOPPED}
        paused = {_V.QUEUE_PAUSED} if self.queue_paused else {_V.THREAD_PAUSED}
        is_paused = self.queue_paused or (model.paused and not model.person)
        if message in self.said:  # its delivery, which no rule makes
            late = {_V.DELIVERY_RETRYING, _V.DELIVERY_WAITS} if self.was_set_back else set()
            return paused if is_paused else {_V.NO_WORKER, *late}
        for record in self.records.values():
            if message in record.messages and record.state in {"failed", "discarded"}:
                return {_V.FAILED} if record.state == "failed" else {_V.DISCARDED}
        is_delivering = model.batch is not None and model.phase is Phase.DELIVERING
        if message in self.completed and not (is_delivering and message in (model.batch or [])):
            return {_V.ANSWERED}
        assert message in [*model.pending, *(model.batch or [])]
        if model.token is not None and model.until > self.now:
            is_running = _V.STOPPING if model.is_stopping else _V.RUNNING
            return {_V.DELIVERING if is_delivering else is_running}
        if is_paused and not model.is_stopping:
            return paused
        is_taken = bool(model.person) and model.is_kept_back
        return {_V.TAKEN_OVER} if is_taken else self._of_a_thread(model, is_delivering)

    def _of_a_thread(self, model: ModelThread, is_delivering: bool) -> set[ExplanationVerdict]:
        """Return the verdicts on a batch, or on messages, that a worker would take in their time."""
        if model.token is not None:
            return {_V.NO_WORKER}
        if model.state is PENDING and is_never(model.due):
            return {_V.NO_REPLY_WANTED}
        waits = {_V.DELIVERY_RETRYING, _V.BACKING_OFF} if is_delivering else {_V.BACKING_OFF}
        early = {PENDING: {_V.WINDOW_OPEN}, RETRYING: waits, HELD: {_V.HELD}}
        early[PARKED] = {
            _V.WAITS_FOR_ANSWER if "open" in model.calls.values() else _V.IN_BACKGROUND
        }
        verdicts = {_V.STOPPING} if model.is_stopping else early[model.state]
        return verdicts if model.due > self.now else {_V.NO_WORKER}

    def _is_withdrawn(self, message: str) -> bool:
        """Return whether the message was cancelled while it waited."""
        return all(message not in record.messages for record in self.records.values())

    def something_wants_a_reply(self) -> None:
        """In each thread that may have messages which do not."""
        for thread, model in self.threads.items():
            if not self.quiet.isdisjoint([*model.pending, *(model.batch or [])]):
                self.add(thread=thread, window=NOW, after_run="immediate", limited=False)

    def teardown(self) -> None:
        """Once the workers come back, every batch ends, and only records are left."""
        self.leases.clear()
        self.rig.lose_replies()
        self.rig.run(control.resume_queue(self.rig.namespace))
        for thread, model in self.threads.items():
            self.hand_back(thread)
            if model.paused:
                self.pause_or_resume(thread)
        self.something_wants_a_reply()
        self.rig.clock.advance(LEASE_S + 2)
        for _ in range(60):
            # A wake-up that is no thread's any more may stand an hour ahead where the clock was set
            # back.
            self.rig.clock.advance(2 if self.rig.threads() else 3600)
            self.rig.sweep()
            self.rig.scheduler()
            while (thread := self.rig.pop()) is not None:
                lease = self.rig.try_claim(thread, lease_s=LEASE_S)
                if isinstance(lease, Lease):
                    self._end(lease)
            if not self.rig.threads() and not self.rig.scheduled():
                break
        assert self.rig.threads() == [], "a thread was forgotten"
        queued = len(self.messages) - len(self.said)
        assert self.rig.metrics().messages["queued"] == queued, "an accepted message is not counted"
        for batch_id in self.failed_ids():
            self.rig.discard_failed(batch_id)
        self.rig.check()
        for call in self.calls:  # those of batches that ended without a word
            with suppress(ApprovalNotFound):
                assert not self.rig.settle(call)
        self.rig.check_idle()
        assert len(set(self.completed)) == len(self.completed), "a message was answered twice"
        failed = {
            one
            for record in self.records.values()
            if record.state != "completed"
            for one in record.messages
        }
        assert set(self.completed) | failed | self.cancelled == set(self.messages), (
            "a message was lost"
        )
        for message in self.messages:
            status = self.rig.message(message)
            assert status is not None
            expected = (
                "completed"
                if message in self.completed
                else "cancelled"
                if message in self.cancelled
                else "failed"
            )
            assert status.status == expected, message

    def _end(self, lease: Lease) -> None:
        ids = [message.id for message in lease.claimed.batch.messages]
        if lease.claimed.wish is Wish.STOP:
            self.cancelled.update(ids)
            self.rig.stopped(lease)
            return
        if lease.claimed.phase is not Phase.DELIVERING:
            self.completed += ids
        self.rig.finish(lease)

    def check_invariants(self, *args: Any) -> None:
        with self.rig.reading():
            super().check_invariants(*args)

    def look(self) -> None:
        """Every invariant."""
        with self.rig.reading():
            self._look()

    def _look(self) -> None:
        self.every_message_is_in_its_one_place_and_in_order()
        self.every_thread_that_is_paused_or_a_persons_is_listed()
        self.every_thread_is_in_its_state_and_has_at_most_one_holder()
        self.each_batch_that_ended_left_one_entry_in_order()
        self.counters_are_what_a_scan_would_count()
        self.everything_was_counted_once()
        self.the_open_calls_are_listed()
        self.the_runs_in_the_air_lead_to_their_threads()


def machine(make_rig: Callable[[], Rig]) -> type[StoreMachine]:
    """The machine on a Redis."""
    return type("StoreMachine", (StoreMachine,), {"make_rig": staticmethod(make_rig)})


A, B = THREADS
NOW, SOON, FULL, SLIDING, LONG, ADAPTIVE, HELD_OPEN, HELD_FULL, HELD_LONG = WINDOWS


class Walk:
    """Steps of a tour on one thread; the invariants are looked at after each."""

    def __init__(self, play: StoreMachine, thread: str, after_run: str = "immediate") -> None:
        self._play = play
        self._thread = thread
        self._after_run = after_run

    def add(
        self,
        window: Window = NOW,
        after_run: str | None = None,
        *,
        limited: bool = False,
        **fields: Any,
    ) -> None:
        self._play.add(
            thread=self._thread,
            window=window,
            after_run=after_run or self._after_run,
            limited=limited,
            **fields,
        )
        self._play.look()

    def due(self, take: int = 1000) -> None:
        self._play.a_worker_comes_when_the_thread_is_due(thread=self._thread, take=take)
        self._play.look()

    def finish(self) -> None:
        self._play.finish(pick=0)
        self._play.look()


def tour(play: StoreMachine) -> None:  # noqa: PLR0915 - a walk
    """A fixed walk along every promise; the invariants are looked at after each step."""

    def do(act: Callable[..., None], *args: object, **kwargs: object) -> None:
        act(*args, **kwargs)
        play.look()

    def add(thread: str, window: Window = NOW, after_run: str = "immediate") -> None:
        do(play.add, thread=thread, window=window, after_run=after_run, limited=False)

    def due(thread: str, take: int = 1000) -> None:
        do(play.a_worker_comes_when_the_thread_is_due, thread=thread, take=take)

    # A window passes without a worker.
    add(B, SOON)
    do(play.time_passes, seconds=3.0)
    do(play.a_status_is_read_after_a_second)
    due(B)
    do(play.finish, pick=0)
    # Windows, duplicates, latecomers.
    add(A, SOON)
    do(play.add_again, pick=0, same=True)
    do(play.add_again, pick=0, same=False)
    do(play.a_stray_wake_up, thread=A, take=1000)
    do(play.time_passes, seconds=1.6)
    add(A, SOON)
    do(play.time_passes, seconds=1.6)
    add(A, SOON)
    do(play.rq_loses_everything)
    do(play.a_status_is_read_after_a_second)
    do(play.a_worker_takes_a_wake_up, take=1000)
    # Several workers; what comes during a run; finish and stay pending.
    do(play.a_stray_wake_up, thread=A, take=1000)
    add(A, SOON, "window")
    add(A, NOW)
    do(play.save, pick=0, phase=Phase.SENDING)
    do(play.a_worker_is_late_and_another_takes_over, is_too_soon=True)
    do(play.renew, pick=0)
    do(play.time_passes, seconds=3.0)
    do(play.renew, pick=0)
    do(play.a_worker_is_late_and_another_takes_over, is_too_soon=False)
    do(play.a_worker_is_late_and_another_takes_over, is_too_soon=False)
    # The late one tries everything, the holder finishes.
    for act in (play.renew, play.complete, play.finish):
        do(act, pick=1)
    do(play.save, pick=1, phase=Phase.RUNNING)
    do(play.trim, pick=1, keep=1)
    do(play.postpone, pick=1, state=RETRYING, wait_s=2.0)
    do(play.bury, pick=1, pause=False)
    do(play.finish, pick=0)
    do(play.finish, pick=0)
    do(play.a_worker_takes_a_wake_up, take=1000)
    # Give back, wait, hold, delivery.
    add(A, SOON, "window")
    do(play.postpone, pick=0, state=RETRYING, wait_s=7.0)
    do(play.postpone, pick=0, state=RETRYING, wait_s=7.0)
    add(A)
    do(play.a_stray_wake_up, thread=A, take=1000)
    due(A)
    do(play.postpone, pick=0, state=HELD, wait_s=2.0)
    do(play.a_status_is_read_after_a_second)
    do(play.a_status_is_read_after_a_second)
    due(A)
    do(play.complete, pick=0)
    do(play.complete, pick=0)
    do(play.a_worker_is_late_and_another_takes_over, is_too_soon=False)
    do(play.finish, pick=0)
    do(play.finish, pick=0)
    # A batch that is put back takes the places of one that is being worked on.
    due(A)
    do(play.bury, pick=0, pause=False)
    do(play.several_come_at_once, thread=A, count=2)
    due(A)
    do(play.retry_failed, pick=0)
    for pick in (0, 1, 2):
        do(play.cancel, pick=pick)
    do(play.finish, pick=0)
    # Trim in front of what has its own window; cancel around it.
    do(play.several_come_at_once, thread=B, count=4)
    due(B)
    add(B, SOON, "window")
    do(play.trim, pick=0, keep=1)
    do(play.cancel, pick=0)
    do(play.cancel, pick=2)
    do(play.cancel, pick=3)
    # Cancelled in front, in the middle and behind the cut of a small batch; edits around them, and
    # what is trimmed comes before them.
    do(play.finish, pick=0)
    due(B)
    do(play.finish, pick=0)
    do(play.several_come_at_once, thread=B, count=2)
    do(play.edit, pick=0)
    do(play.add_again, pick=0, same=True)
    do(play.several_are_cancelled, thread=B, places={1})
    due(B, take=1)
    do(play.edit, pick=0)
    do(play.finish, pick=0)
    do(play.several_come_at_once, thread=B, count=4)
    do(play.several_come_at_once, thread=B, count=4)
    do(play.several_are_cancelled, thread=B, places={0, 2, 5, 7})
    due(B, take=3)
    do(play.a_waiting_one_is_edited, thread=B, place=0)
    do(play.trim, pick=0, keep=1)
    do(play.a_waiting_one_is_edited, thread=B, place=1)
    do(play.several_are_cancelled, thread=B, places={1})
    do(play.finish, pick=0)
    due(B, take=1)
    do(play.finish, pick=0)
    due(B, take=1)
    do(play.finish, pick=0)
    do(play.the_queue_is_paused_or_resumed, is_long=True)
    do(play.several_come_at_once, thread=B, count=4)
    do(play.a_stray_wake_up, thread=B, take=1000)
    do(play.the_queue_is_paused_or_resumed, is_long=True)
    due(B)
    add(B, SOON, "window")
    # Failed: listed, retried in order, discarded, paused.
    do(play.bury, pick=0, pause=True)
    do(play.bury, pick=0, pause=True)
    do(play.a_stray_wake_up, thread=B, take=1000)
    do(play.pause_or_resume, thread=B)
    do(play.a_status_is_read_after_a_second)
    do(play.several_come_at_once, thread=B, count=3)
    do(play.retry_failed, pick=0)
    due(B, take=2)
    do(play.bury, pick=0, pause=False)
    do(play.retry_failed, pick=0)
    due(B, take=2)
    do(play.bury, pick=0, pause=False)
    do(play.discard_failed, pick=0)
    do(play.retry_what_is_not_in_the_list, pick=0)
    due(B)
    do(play.a_worker_dies, pick=0)
    do(play.rq_loses_everything)
    do(play.time_passes, seconds=LEASE_S + 2)
    do(play.sweep)
    do(play.a_worker_takes_a_wake_up, take=1000)
    add(A, FULL)
    add(A, FULL)
    add(A, FULL)
    do(play.rq_hands_over_what_is_scheduled)
    do(play.a_worker_takes_a_wake_up, take=1000)
    do(play.pause_or_resume, thread=A)
    add(A, SLIDING)
    do(play.time_passes, seconds=0.4)
    add(A, SLIDING)
    do(play.rq_loses_everything)
    do(play.pause_or_resume, thread=A)
    # A window that passes during a pause; then its wake-up stands behind another's, so that it is
    # looked at late.
    do(play.finish, pick=0)
    do(play.finish, pick=1)
    do(play.pause_or_resume, thread=B)
    add(B, SOON)
    do(play.time_passes, seconds=3.0)
    do(play.pause_or_resume, thread=B)
    do(play.a_status_is_read_after_a_second)
    do(play.rq_loses_everything)
    # The clock of Redis goes back an hour: over a window, over a lease with messages behind it,
    # over a paused thread.
    due(B)
    do(play.finish, pick=0)
    # Several times over a paused thread that is not looked at, since its worker is gone: before and
    # after a message, before and after a back-off.
    do(play.several_come_at_once, thread=B, count=2)
    due(B)
    for act, said in (
        (play.add, {"thread": B, "window": SOON, "after_run": "window", "limited": False}),
        (play.postpone, {"pick": 0, "state": RETRYING, "wait_s": 7.0}),
    ):
        do(play.pause_or_resume, thread=B)
        do(play.time_passes, seconds=LEASE_S + 2)
        do(play.sweep)
        do(play.the_clock_of_redis_is_set_back, seconds=3600.0)
        do(act, **said)
        do(play.the_clock_of_redis_is_set_back, seconds=3600.0)
        do(play.pause_or_resume, thread=B)
        due(B)
    # Over a lease that was renewed, and over one that was taken over.
    do(play.time_passes, seconds=3.0)
    do(play.renew, pick=0)
    do(play.the_clock_of_redis_is_set_back, seconds=60.0)
    do(play.time_passes, seconds=LEASE_S + 2)
    do(play.a_stray_wake_up, thread=B, take=1000)
    do(play.the_clock_of_redis_is_set_back, seconds=60.0)
    do(play.finish, pick=0)
    due(B)
    do(play.finish, pick=0)
    add(A, SOON)
    add(B, SOON)
    due(B)
    add(B, SOON, "window")
    do(play.pause_or_resume, thread=A)
    do(play.the_clock_of_redis_is_set_back, seconds=3600.0)
    do(play.a_stray_wake_up, thread=B, take=1000)
    do(play.time_passes, seconds=LEASE_S + 2)
    do(play.sweep)
    do(play.pause_or_resume, thread=A)
    do(play.a_worker_takes_a_wake_up, take=1000)
    do(play.the_clock_of_redis_is_set_back, seconds=60.0)
    do(play.rq_loses_everything)
    # Over a window that a latecomer found over.
    do(play.finish, pick=0)
    due(A)
    do(play.finish, pick=0)
    add(A, SLIDING)
    do(play.time_passes, seconds=1.6)
    add(A, NOW)
    do(play.the_clock_of_redis_is_set_back, seconds=60.0)
    do(play.a_status_is_read_after_a_second)
    # Over a batch that is cut then.
    do(play.a_worker_takes_a_wake_up, take=1000)
    do(play.the_clock_of_redis_is_set_back, seconds=60.0)
    do(play.trim, pick=0, keep=1)
    do(play.finish, pick=0)
    add(A, SOON)
    add(B, SOON)
    do(play.the_clock_of_redis_is_set_back, seconds=3600.0)
    do(play.rq_loses_everything)
    play.teardown()
