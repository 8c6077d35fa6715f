"""The outbox as a model in plain Python: a line of replies and one lease for each thread."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from assistant_queue.core.delivery import DeliveryState
from assistant_queue.errors import BatchNotFound, LeaseLost
from assistant_queue.models import ExplanationVerdict
from assistant_queue.store.calls import GUARD_MS
from assistant_queue.store.ops import control, event_log, explaining, reply_outbox
from assistant_queue.store.ops.reply_outbox import DeliveryLease
from tests.contract.store_rig import CHANNEL, Rig

THREADS = ("a", "b")
LEASE_MS = 30_000
THREAD = st.sampled_from(THREADS)
PICK = st.integers(0, 4)
LOOKS = {"due_deliveries", "claim_delivery", "wake_delivery"}
"""Scripts of which copies may take a lease that is free, or move the time of a check."""


@dataclass
class Line:
    """One thread: batches in order, and the state of the head."""

    batches: list[str] = field(default_factory=list)
    token: str | None = None
    until: int = 0
    due: int = 0
    deaths: int = 0
    waits: bool = False
    states: dict[str, DeliveryState] = field(default_factory=dict)
    paused: bool = False

    def new_head(self, now: int, token: str | None) -> None:
        """Give the first reply a fresh state."""
        self.token = token if self.batches and not self.paused else None
        self.until = now + LEASE_MS
        self.due = now
        self.deaths = 0
        self.waits = False

    def state(self) -> DeliveryState:
        return self.states.get(self.batches[0], DeliveryState())


class OutboxMachine(RuleBasedStateMachine):
    """Compare the store with the model after every step."""

    make_rig: Callable[[], Rig]

    def __init__(self) -> None:
        super().__init__()
        self.rig = self.make_rig()
        # A reader of all events: no copy of a call may publish one again.
        self.rig.run(event_log.listen(self.rig.namespace, event_log.ALL_THREADS))
        self.lines = {thread: Line() for thread in THREADS}
        self.leases: list[DeliveryLease] = []
        self.parked: dict[str, str] = {}
        self.parts: dict[str, tuple[str | None, ...]] = {}
        self.delivered: list[str] = []
        self.journals: dict[str, dict[str, str]] = {thread: {} for thread in THREADS}
        self.numbers = itertools.count(1)
        self.tries: Counter[str] = Counter()

    @property
    def now(self) -> int:
        return self.rig.clock.ms

    # --- replies arrive ---------------------------------------------------------------------

    @rule(thread=THREAD, at_once=st.booleans())
    def answer(self, thread: str, at_once: bool) -> None:
        line = self.lines[thread]
        if line.paused:
            return
        self.rig.add(thread, delay_s=0)
        batch = self.rig.claim(thread)
        token = f"token{next(self.numbers)}" if at_once else None
        lease = self.rig.reply(batch, at_once=at_once, token=token)
        line.batches.append(batch.claimed.batch.id)
        self.journals[thread][batch.claimed.batch.id] = "pending"
        is_first = len(line.batches) == 1
        assert (lease is not None) == (is_first and at_once)
        if is_first:
            line.new_head(self.now, token)
        if lease is not None:
            self.leases.append(lease)

    @rule(thread=THREAD)
    def say(self, thread: str) -> None:
        line = self.lines[thread]
        batch_id = f"note{next(self.numbers)}"
        self.rig.say(thread, batch_id=batch_id)
        line.batches.append(batch_id)
        self.journals[thread][batch_id] = "pending"
        if len(line.batches) == 1:
            line.new_head(self.now, None)

    @rule(thread=THREAD, guard=st.booleans())
    def claim(self, thread: str, guard: bool) -> None:
        line = self.lines[thread]
        token = f"token{next(self.numbers)}"
        if line.batches and not line.paused:
            self._rewind(thread, line)
        lease = self.rig.claim_delivery(thread, token=token, guard=guard)
        is_free = (
            bool(line.batches)
            and not line.paused
            and (line.until <= self.now if line.token else line.due <= self.now)
        )
        assert (lease is not None) == is_free, (line, lease)
        if lease is None:
            return
        line.deaths += bool(line.token) and not line.waits
        line.waits = line.deaths > 0
        line.token = token
        line.until = self.now + LEASE_MS
        assert (lease.batch_id, lease.deaths) == (line.batches[0], line.deaths)
        assert lease.state == line.state()
        self.leases.append(lease)

    # --- holders ----------------------------------------------------------------------------

    has_lease = precondition(lambda self: self.leases)

    def _pick(self, pick: int) -> tuple[DeliveryLease, Line, bool]:
        lease = self.leases[-1 - pick % len(self.leases)]
        line = self.lines[lease.thread_id]
        is_held = line.token == lease.token and line.batches[:1] == [lease.batch_id]
        return lease, line, is_held

    def _refused(self, act: Callable[[], Any]) -> None:
        before = self.rig.snapshot()
        try:
            act()
        except LeaseLost:
            assert self.rig.snapshot() == before, "a refused write changed something"
            return
        # The same call again: its effect stands.
        assert self.rig.snapshot() == before, "a write without the lease changed something"

    @has_lease
    @rule(pick=PICK, takes_next=st.booleans())
    def deliver(self, pick: int, takes_next: bool) -> None:
        lease, line, is_held = self._pick(pick)
        if not is_held:
            self._refused(lambda: self.rig.delivered(lease, takes_next=takes_next))
            return
        self._leave(lease, line, self.rig.delivered(lease, takes_next=takes_next), takes_next)
        assert lease.batch_id not in self.delivered, "a reply was delivered twice"
        self.delivered.append(lease.batch_id)
        self._count("delivered")
        self.tries["h:d"] += 1
        self.tries["h:e"] += not lease.batch_id.startswith("note")
        self.journals[lease.thread_id][lease.batch_id] = "delivered"

    @has_lease
    @rule(pick=PICK, takes_next=st.booleans())
    def park(self, pick: int, takes_next: bool) -> None:
        lease, line, is_held = self._pick(pick)
        if not is_held:
            self._refused(lambda: self.rig.park_delivery(lease, takes_next=takes_next))
            return
        self.rig.clock.advance(0.001)  # no two failures have the same time
        following = self.rig.park_delivery(lease, takes_next=takes_next)
        self._leave(lease, line, following, takes_next)
        self._count("undelivered")
        self.parked[lease.batch_id] = lease.thread_id
        self.journals[lease.thread_id][lease.batch_id] = "undelivered"
        self.parts[lease.batch_id] = lease.state.part_ids

    def _count(self, outcome: str) -> None:
        field = f"d:{CHANNEL}:{outcome}"
        self.tries["n:channels"] += field not in self.tries
        self.tries[field] += 1

    def _leave(
        self,
        lease: DeliveryLease,
        line: Line,
        following: DeliveryLease | None,
        takes_next: bool,
    ) -> None:
        line.states.pop(line.batches.pop(0), None)
        line.new_head(self.now, lease.token if takes_next else None)
        assert (following is not None) == (line.token is not None)
        if following is not None:
            assert following.batch_id == line.batches[0]
            assert following.state == line.state()
            self.leases.append(following)

    @has_lease
    @rule(pick=PICK, wait_s=st.sampled_from([0.0, 5.0]), parts=st.integers(0, 2))
    def postpone(self, pick: int, wait_s: float, parts: int) -> None:
        lease, line, is_held = self._pick(pick)
        state = DeliveryState(tries=1, part_ids=tuple("p" * parts))
        if not is_held:
            self._refused(lambda: self.rig.postpone_delivery(lease, wait_s, state))
            return
        self.rig.clock.advance(0.001)  # a copy of the claim finds another time
        self.rig.postpone_delivery(lease, wait_s, state)
        self._count("retried")
        line.states[lease.batch_id] = state
        line.token = None
        line.due = self.now + round(wait_s * 1000)
        line.deaths = 0
        line.waits = False

    @has_lease
    @rule(pick=PICK, parts=st.integers(0, 3))
    def save(self, pick: int, parts: int) -> None:
        lease, line, is_held = self._pick(pick)
        state = DeliveryState(part_ids=tuple("p" * parts), unsure=parts)
        if not is_held:
            self._refused(lambda: self.rig.save_delivery(lease, state))
            return
        before = self.rig.hash(self.rig.keys.delivering(lease.thread_id)).get("progress")
        self.rig.save_delivery(lease, state)
        line.states[lease.batch_id] = state
        line.waits = False
        if before and before != state.dump():
            line.deaths = 0

    @has_lease
    @rule(pick=PICK)
    def renew(self, pick: int) -> None:
        lease, line, _ = self._pick(pick)
        is_held = line.token == lease.token
        assert (self.rig.renew(lease) is not None) == is_held
        if is_held:
            line.until = self.now + LEASE_MS

    @has_lease
    @rule(pick=PICK)
    def die(self, pick: int) -> None:
        self.leases.pop(-1 - pick % len(self.leases))

    # --- an operator ------------------------------------------------------------------------

    @precondition(lambda self: self.parked)
    @rule(pick=PICK)
    def retry(self, pick: int) -> None:
        batch_id = sorted(self.parked)[pick % len(self.parked)]
        thread = self.parked.pop(batch_id)
        line = self.lines[thread]
        self.rig.retry_failed(batch_id)
        line.states[batch_id] = DeliveryState(part_ids=self.parts[batch_id])
        if line.token and line.until > self.now:
            line.batches.insert(1, batch_id)
            return
        line.batches.insert(0, batch_id)
        line.new_head(self.now, None)

    @precondition(lambda self: self.parked)
    @rule(pick=PICK)
    def discard(self, pick: int) -> None:
        batch_id = sorted(self.parked)[pick % len(self.parked)]
        del self.parked[batch_id]
        self.rig.discard_failed(batch_id)
        try:
            self.rig.retry_failed(batch_id)
        except BatchNotFound:
            return
        raise AssertionError("a discarded reply was retried")

    @rule(thread=THREAD)
    def pause_or_resume(self, thread: str) -> None:
        line = self.lines[thread]
        line.paused = not line.paused
        act = control.pause_thread if line.paused else control.resume_thread
        self.rig.run(act(self.rig.namespace, thread))

    @rule(seconds=st.sampled_from([0.5, 5.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.rig.clock.advance(seconds)

    @rule(seconds=st.sampled_from([60.0, 3600.0]))
    def the_clock_of_redis_is_set_back(self, seconds: float) -> None:
        """A scheduler rewinds the deliveries; a paused one is rewound by the next claim."""
        # No two times are the same again: a copy of a claim finds another one.
        self.rig.clock.ms -= round(seconds * 1000) + 137 * next(self.numbers)
        checks = self.rig.keys.deliveries
        moved = [
            (thread, line)
            for thread, line in self.lines.items()
            if self.rig.client.zscore(checks, thread) is not None and self._rewind(thread, line)
        ]
        self.rig.run(reply_outbox.rewind_deliveries(self.rig.namespace, 0))
        for thread, line in moved:
            at = line.until + GUARD_MS if line.token else line.due
            assert self.rig.client.zscore(checks, thread) == at

    def _rewind(self, thread: str, line: Line) -> bool:
        stored = self.rig.hash(self.rig.keys.delivering(thread))
        past = "seen" if "seen" in stored else "due"
        ahead = max(int(stored.get(name, 0)) for name in (past, "queued")) - self.now
        if ahead <= 0:
            return False

        def moved(at: int) -> int:
            return max(at - ahead, self.now) if at - self.now > ahead / 2 else at

        line.due = moved(min(line.due, self.now) if past == "due" else line.due)
        line.until = moved(line.until)
        return True

    @rule()
    def sweep(self) -> None:
        self.rig.run(reply_outbox.wake_deliveries(self.rig.namespace))

    @precondition(lambda self: self.rig.sent)
    @rule(pick=st.one_of(st.integers(0, 6), st.integers(0, 200)))
    def a_copy_of_any_call_arrives(self, pick: int) -> None:
        call = self.rig.sent[-1 - pick % len(self.rig.sent)]
        assert call.script is not None
        name = call.script.name
        said = dict(zip(call.script.args, call.words, strict=True))
        line = self.lines.get(call.thread_id)
        if name not in {
            "claim_delivery",
            "delivered",
            "park_delivery",
            "postpone_delivery",
            "save_delivery",
            "return_delivery",
            "discard_delivery",
            "finish",
            "say",
        }:
            return
        if (
            name == "claim_delivery"
            and line
            and said["token"] not in {lease.token for lease in self.leases}
        ):
            # A claim that was refused may succeed when its copy arrives at the same time.
            return
        before = self.rig.snapshot()
        self.rig.again(call)
        assert self.rig.snapshot() == before, f"a copy of {name} changed something"

    @rule(thread=THREAD)
    def an_explanation_agrees(self, thread: str) -> None:
        """The verdict on a thread is that on the head of its line."""
        found = self.rig.run(explaining.explain(self.rig.namespace, thread, is_thread=True))
        line = self.lines[thread]
        if not line.batches:
            parked = {batch for batch, owner in self.parked.items() if owner == thread}
            assert (found.verdict is ExplanationVerdict.UNDELIVERED) == bool(parked), found
            assert (found.batch_id in parked) == bool(parked), found
            return
        assert found.batch_id == line.batches[0], found
        assert found.verdict is self._verdict(line), (line, found)

    def _verdict(self, line: Line) -> ExplanationVerdict:
        if line.paused:
            return ExplanationVerdict.THREAD_PAUSED
        if line.token:
            is_held = line.until > self.now
            return ExplanationVerdict.DELIVERING if is_held else ExplanationVerdict.WORKER_LOST
        is_early = line.due > self.now
        return ExplanationVerdict.DELIVERY_RETRYING if is_early else ExplanationVerdict.NO_WORKER

    # --- always -----------------------------------------------------------------------------

    @invariant()
    def the_lines_are_those_of_the_model(self) -> None:
        for thread, line in self.lines.items():
            assert self.rig.outbox(thread) == line.batches
            stored = self.rig.hash(self.rig.keys.delivering(thread))
            assert bool(stored) == bool(line.batches)
            assert stored.get("token") == (line.token if line.batches else None)
            score = self.rig.client.zscore(self.rig.keys.deliveries, thread)
            if line.batches and not line.paused:
                assert score is not None, "no process looks at this reply again"

    @invariant()
    def the_journals_are_those_of_the_model(self) -> None:
        for thread, expected in self.journals.items():
            found = self.rig.journal(thread)
            states = [(one.batch_id, one.delivery.state) for one in reversed(found)]
            assert states == list(expected.items()), thread
            for one in found:
                is_done = one.delivery.state == "delivered"
                assert (one.timeline.delivered_at is not None) == is_done, one

    @invariant()
    def the_counters_are_those_of_the_model(self) -> None:
        waiting = sum(len(line.batches) for line in self.lines.values())
        found = self.rig.run(reply_outbox.read_counts(self.rig.namespace))
        assert found == (waiting, len(self.delivered), len(self.parked))
        assert {row.batch_id for row in self.rig.failed()} == set(self.parked)

    @invariant()
    def every_try_was_counted_once(self) -> None:
        """The end of a batch with a reply to deliver is counted by its delivery."""
        found = self.rig.counted()
        kept = {name for name in found if name[:2] in {"d:", "n:"} or name in {"h:d", "h:e"}}
        assert {name: found[name] for name in kept} == dict(+self.tries)


def outbox_machine(make_rig: Callable[[], Rig]) -> type[OutboxMachine]:
    """Return the machine over a fresh store."""
    return type("Machine", (OutboxMachine,), {"make_rig": staticmethod(make_rig)})


def outbox_tour(play: OutboxMachine) -> None:
    """Go once past everything that a deliberate bug can break."""
    do = _checked(play)
    do(play.answer, thread="a", at_once=True)
    do(play.claim, thread="a", guard=False)  # refused: it is held
    do(play.answer, thread="a", at_once=True)
    do(play.answer, thread="a", at_once=False)
    do(play.save, pick=0, parts=1)
    old = play.rig.sent[-1]
    do(play.save, pick=0, parts=2)
    before = play.rig.snapshot()
    play.rig.again(old)
    assert play.rig.snapshot() == before, "a copy of a write changed something"
    do(play.postpone, pick=0, wait_s=5.0, parts=2)
    do(play.claim, thread="a", guard=False)  # early
    do(play.time_passes, seconds=5.0)
    do(play.claim, thread="a", guard=True)
    do(play.time_passes, seconds=31.0)
    do(play.claim, thread="a", guard=False)  # after a death
    do(play.deliver, pick=1, takes_next=True)  # by the one that has died: refused
    do(play.park, pick=0, takes_next=True)
    do(play.postpone, pick=0, wait_s=5.0, parts=1)
    do(play.retry, pick=0)  # displaces the head, which keeps its parts
    call = play.rig.sent[-1]
    do(play.claim, thread="a", guard=False)
    do(play.park, pick=0, takes_next=False)
    before = play.rig.snapshot()
    play.rig.again(call)
    assert play.rig.snapshot() == before, "a copy of a return acted again"
    do(play.time_passes, seconds=5.0)
    do(play.claim, thread="a", guard=False)
    do(play.deliver, pick=0, takes_next=False)
    do(play.pause_or_resume, thread="a")
    do(play.claim, thread="a", guard=False)  # paused
    do(play.pause_or_resume, thread="a")
    do(play.claim, thread="a", guard=False)
    batch_id = next(iter(play.parked))
    do(play.discard, pick=0)
    assert not play.rig.client.exists(play.rig.keys.reply(batch_id)), "a text was kept"
    do(play.deliver, pick=0, takes_next=True)
    do(play.say, thread="a")
    call = play.rig.sent[-1]
    do(play.answer, thread="a", at_once=True)  # behind it
    do(play.claim, thread="a", guard=False)
    do(play.deliver, pick=0, takes_next=True)
    do(play.deliver, pick=0, takes_next=True)
    before = play.rig.snapshot()
    play.rig.again(call)
    assert play.rig.snapshot() == before, "a copy of what was said was said again"
    _copies_tour(play, do)
    _clock_tour(play, do)


def _copies_tour(play: OutboxMachine, do: Callable[..., None]) -> None:
    do(play.say, thread="a")
    do(play.claim, thread="a", guard=False)
    call = play.rig.sent[-1]
    do(play.say, thread="a")
    do(play.deliver, pick=0, takes_next=False)
    before = play.rig.snapshot()
    play.rig.again(call)
    assert play.rig.snapshot() == before, "a copy of a claim took the lease on the next reply"
    do(play.claim, thread="a", guard=False)
    do(play.deliver, pick=0, takes_next=False)


def _clock_tour(play: OutboxMachine, do: Callable[..., None]) -> None:
    do(play.answer, thread="b", at_once=False)
    do(play.the_clock_of_redis_is_set_back, seconds=3600.0)
    do(play.claim, thread="b", guard=False)
    do(play.the_clock_of_redis_is_set_back, seconds=60.0)
    do(play.time_passes, seconds=31.0)
    do(play.claim, thread="b", guard=False)  # the lease has not become longer
    do(play.postpone, pick=0, wait_s=5.0, parts=0)
    do(play.claim, thread="b", guard=False)  # early
    do(play.pause_or_resume, thread="b")
    do(play.claim, thread="b", guard=False)  # paused
    do(play.the_clock_of_redis_is_set_back, seconds=3600.0)
    do(play.pause_or_resume, thread="b")
    do(play.claim, thread="b", guard=False)  # early, and moved
    do(play.time_passes, seconds=5.0)
    do(play.claim, thread="b", guard=False)


def _checked(play: OutboxMachine) -> Callable[..., None]:
    def do(act: Callable[..., None], **said: Any) -> None:
        act(**said)
        play.the_lines_are_those_of_the_model()
        play.the_journals_are_those_of_the_model()
        play.the_counters_are_those_of_the_model()
        play.every_try_was_counted_once()

    return do
