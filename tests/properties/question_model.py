"""Questions of channels as a model in plain Python: what is left to ask, and under which lease."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from assistant_queue.store.ops import control, questions, sweeping
from assistant_queue.store.ops.leases import Lease
from assistant_queue.store.ops.questions import DueQuestion, HeldQuestion
from tests.contract.store_rig import Rig

THREADS = ("a", "b")
LEASE_MS = 30_000
THREAD = st.sampled_from(THREADS)
PICK = st.integers(0, 4)
COPIED = ("park", "settle", "close", "claim_question", "asked", "release_question", "forget")


@dataclass
class Question:
    """One call.

    Attributes:
        thread: Its thread.
        is_open: It was not settled.
        due: When the next worker may do what is left; None for nothing.
        holder: The token of the worker that is at it.
        sent: The messages that were noted.
        shown: Those of which the verdict was shown.
        deaths: Workers that lost it without a word.
        tries: That failed.
    """

    thread: str
    is_open: bool = True
    due: int | None = None
    holder: str | None = None
    sent: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    deaths: int = 0
    tries: int = 0

    def settled(self, now: int) -> None:
        self.is_open = False
        if self.holder is None:
            self.due = now if self.sent else None

    def what(self) -> str | None:
        """Return what is left to be done."""
        if self.is_open:
            return None if self.sent else "ask"
        return "show" if self.sent != self.shown else None


@dataclass
class Line:
    """One thread: its lease, or its parked batch."""

    lease: Lease | None = None
    calls: list[str] = field(default_factory=list)
    is_due: bool = False


class QuestionMachine(RuleBasedStateMachine):
    """Compare the store with the model after every step."""

    make_rig: Callable[[], Rig]

    def __init__(self) -> None:
        super().__init__()
        self.rig = self.make_rig()
        self.lines = {thread: Line() for thread in THREADS}
        self.questions: dict[str, Question] = {}
        self.held: list[HeldQuestion] = []
        self.numbers = itertools.count(1)

    @property
    def now(self) -> int:
        return self.rig.clock.ms

    # --- batches ----------------------------------------------------------------------------------

    @rule(thread=THREAD, count=st.integers(1, 2), asks=st.booleans())
    def park(self, thread: str, count: int, asks: bool) -> None:
        """A batch parks for new calls, or again for those that are open."""
        line = self.lines[thread]
        if line.lease is None:
            if line.calls:
                return
            self.rig.add(thread, delay_s=0)
            line.lease = self.rig.claim(thread)
            line.calls = [f"{thread}{next(self.numbers)}" for _ in range(count)]
        known = {one: self.questions.get(one) for one in line.calls}
        assert self.rig.park(line.lease, *map(self.rig.open_call, line.calls), asks=asks)
        for one, question in known.items():
            if question is None:
                self.questions[one] = Question(thread, due=self.now if asks else None)
        line.lease = None
        line.is_due = any(not self.questions[one].is_open for one in line.calls)

    @precondition(lambda self: self.questions)
    @rule(pick=PICK)
    def settle(self, pick: int) -> None:
        call_id = self._chosen(pick)
        question = self.questions[call_id]
        assert self.rig.settle(call_id, by="eve") is question.is_open
        if question.is_open:
            question.settled(self.now)
            self.lines[question.thread].is_due = True

    @rule(thread=THREAD)
    def continue_batch(self, thread: str) -> None:
        line = self.lines[thread]
        if line.lease is None and line.is_due:
            line.lease = self.rig.claim(thread)

    @rule(thread=THREAD, closes=st.booleans())
    def finish(self, thread: str, closes: bool) -> None:
        """The batch ends: its calls are closed, as those that still are open; or it is 0.1's."""
        line = self.lines[thread]
        if line.lease is None:
            return
        if closes or any(self.questions[one].is_open for one in line.calls):
            self.rig.close_calls(line.lease, *line.calls)
            for one in line.calls:
                if self.questions[one].is_open:
                    self.questions[one].settled(self.now)
        self.rig.finish(line.lease)
        self.lines[thread] = Line()

    @rule(thread=THREAD)
    def forget(self, thread: str) -> None:
        if self.lines[thread].lease is not None:
            return
        self.rig.run(control.forget(self.rig.namespace, thread))
        self.questions = {n: one for n, one in self.questions.items() if one.thread != thread}
        self.lines[thread] = Line()

    # --- workers ----------------------------------------------------------------------------------

    @precondition(lambda self: self.questions)
    @rule(pick=PICK)
    def take(self, pick: int) -> None:
        """A worker takes a question: that is due, or that it has found to be due long ago."""
        self.rig.clock.ms += 1
        call_id = self._chosen(pick)
        question = self.questions[call_id]
        at = self.rig.client.zscore(self.rig.keys.questions, call_id)
        due = DueQuestion(call_id=call_id, thread_id=question.thread, at=f"{at or 0:.0f}")
        token = f"asker{next(self.numbers)}"
        held = self.rig.take_question(due, token, LEASE_MS / 1000)
        stale = DueQuestion(call_id=call_id, thread_id=question.thread, at="7")
        assert self.rig.take_question(stale, token + "x") is None
        if question.due is None or question.due > self.now:
            assert held is None, f"{call_id} is not due"
            return
        if question.what() is None:
            assert held is None, f"nothing is left to be done for {call_id}"
            question.due = question.holder = None
            question.deaths = question.tries = 0
            return
        assert held is not None, f"{call_id} is not taken"
        question.deaths += question.holder is not None
        question.holder = token
        question.due = self.now + LEASE_MS
        assert (held.what, held.deaths, held.tries) == (
            question.what(),
            question.deaths,
            question.tries,
        )
        assert held.part_ids == question.sent
        self.held.append(held)
        assert self.rig.take_question(due, token) == held, "its answer was lost"

    @precondition(lambda self: self.held)
    @rule(pick=PICK)
    def note(self, pick: int) -> None:
        """A worker that asks, or has asked long ago, has sent the question."""
        held = self.held[-1 - pick % len(self.held)]
        if held.what == "show":
            return
        question = self.questions.get(held.call_id)
        part = f"m-{held.token}"
        is_holder = question is not None and question.holder == held.token
        is_again = question is not None and part in question.sent
        noted = self.rig.note_asked(held, part)
        if question is None or is_again:
            return
        assert noted is is_holder
        question.sent += (part,)
        if is_holder:
            question.holder = None
            question.deaths = question.tries = 0
            question.due = None if question.is_open else self.now
        elif question.holder is None and not question.is_open:
            question.due = self.now

    @precondition(lambda self: self.held)
    @rule(pick=PICK, wait_s=st.sampled_from([None, 1, 60]))
    def release(self, pick: int, wait_s: int | None) -> None:
        held = self.held[-1 - pick % len(self.held)]
        question = self.questions.get(held.call_id)
        released = self.rig.release_question(held, wait_s, tries=held.tries + 1)
        if question is None or question.holder != held.token:
            return
        assert released
        question.holder = None
        question.deaths = 0
        if wait_s is not None:
            question.tries = held.tries + 1
            question.due = self.now + wait_s * 1000
            return
        question.tries = 0
        if held.part_ids:
            question.shown = held.part_ids
        question.due = None if question.sent == held.part_ids else self.now

    @rule(seconds=st.sampled_from([0.5, 5.0, 31.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.rig.clock.advance(seconds)

    @rule(seconds=st.sampled_from([20.0, 3600.0]))
    def the_clock_of_redis_is_set_back(self, seconds: float) -> None:
        back = round(seconds * 1000)
        self.rig.clock.ms -= back
        self.rig.run(sweeping.rewind(self.rig.namespace, back))
        self.rig.run(questions.rewind_questions(self.rig.namespace, back))
        for question in self.questions.values():
            if question.due is not None and question.due > self.now:
                question.due = max(question.due - back, self.now)

    @rule(name=st.sampled_from(COPIED))
    def copies_arrive(self, name: str) -> None:
        """Send all calls of a script again, the oldest last: none may undo a later one."""
        before = self.rig.snapshot()
        for call in reversed(
            [one for one in self.rig.sent if one.script is not None and one.script.name == name]
        ):
            self.rig.again(call)
        assert self.rig.snapshot() == before, f"a copy of {name} changed something"

    def _chosen(self, pick: int) -> str:
        names = list(self.questions)
        return names[-1 - pick % len(names)]

    @invariant()
    def what_is_left_is_listed_and_nothing_else(self) -> None:
        found = dict(self.rig.client.zrange(self.rig.keys.questions, 0, -1, withscores=True))
        expected = {n.encode(): one.due for n, one in self.questions.items() if one.due is not None}
        assert found == expected

    def teardown(self) -> None:
        """Every question is asked or shown in the end, whatever its workers did."""
        for _ in range(3):
            self.rig.clock.advance(61)
            for call_id, question in list(self.questions.items()):
                asked = question.due is not None and question.what() == "ask"
                self.take(pick=list(reversed(self.questions)).index(call_id))
                if question.holder is None:
                    continue
                (self.note if asked else lambda pick: self.release(pick, None))(pick=0)
        assert not self.rig.client.exists(self.rig.keys.questions), "a question is left"


def question_machine(make_rig: Callable[[], Rig]) -> type[QuestionMachine]:
    """The machine on a Redis."""
    return type("QuestionMachine", (QuestionMachine,), {"make_rig": staticmethod(make_rig)})


def question_tour(play: QuestionMachine) -> None:  # noqa: PLR0915 - a walk
    """Walk along every promise; the invariants are looked at after each step."""

    def do(step: str, **fields: object) -> None:
        getattr(play, step)(**fields)
        play.what_is_left_is_listed_and_nothing_else()

    def copies() -> None:
        for name in COPIED:
            do("copies_arrive", name=name)

    # Asked, put off, asked again by another worker, settled, shown.
    do("park", thread="a", count=2, asks=True)
    do("take", pick=0)
    do("release", pick=0, wait_s=60)
    do("take", pick=0)
    do("time_passes", seconds=61.0)
    do("take", pick=0)
    do("take", pick=0)
    do("time_passes", seconds=31.0)
    do("take", pick=0)
    copies()
    do("note", pick=1)
    do("release", pick=1, wait_s=None)
    do("note", pick=0)
    copies()
    do("settle", pick=1)
    do("settle", pick=0)
    copies()
    do("take", pick=1)
    do("take", pick=0)
    do("release", pick=0, wait_s=1)
    do("time_passes", seconds=5.0)
    do("continue_batch", thread="a")
    do("finish", thread="a", closes=True)
    do("take", pick=0)
    do("release", pick=0, wait_s=None)
    copies()
    do("take", pick=0)
    # Settled while it is asked about; by a close; and by an answer that comes before the question.
    do("park", thread="b", count=2, asks=True)
    do("take", pick=0)
    do("take", pick=1)
    do("settle", pick=0)
    do("continue_batch", thread="b")
    do("finish", thread="b", closes=True)
    do("note", pick=0)
    do("note", pick=1)
    copies()
    do("take", pick=0)
    do("the_clock_of_redis_is_set_back", seconds=3600.0)
    do("time_passes", seconds=31.0)
    do("take", pick=0)
    do("release", pick=0, wait_s=None)
    copies()
    # A worker is late: it has sent the question while, or after, another shows the verdict.
    do("park", thread="b", count=1, asks=True)
    do("take", pick=0)
    do("time_passes", seconds=31.0)
    do("take", pick=0)
    do("note", pick=0)
    do("settle", pick=0)
    do("take", pick=0)
    do("note", pick=2)
    do("release", pick=0, wait_s=None)
    do("take", pick=0)
    do("release", pick=0, wait_s=None)
    copies()
    do("continue_batch", thread="b")
    do("finish", thread="b", closes=False)
    # It parks again, without a channel; it is withdrawn; it is forgotten.
    do("park", thread="a", count=2, asks=True)
    do("take", pick=0)
    do("note", pick=0)
    do("settle", pick=1)
    do("continue_batch", thread="a")
    do("park", thread="a", count=1, asks=True)
    do("settle", pick=0)
    do("continue_batch", thread="a")
    do("finish", thread="a", closes=True)
    do("park", thread="a", count=1, asks=False)
    do("settle", pick=0)
    do("continue_batch", thread="a")
    do("finish", thread="a", closes=True)
    do("park", thread="b", count=2, asks=True)
    do("take", pick=0)
    do("note", pick=0)
    do("take", pick=1)
    do("forget", thread="b")
    do("note", pick=0)
    do("park", thread="b", count=2, asks=True)
    do("take", pick=0)
    do("note", pick=0)
    do("settle", pick=1)
    do("continue_batch", thread="b")
    do("park", thread="b", count=2, asks=True)
    do("settle", pick=0)
    do("take", pick=0)
    do("release", pick=0, wait_s=None)
    do("continue_batch", thread="b")
    do("finish", thread="b", closes=True)
    do("park", thread="b", count=1, asks=True)
    do("take", pick=0)
    do("note", pick=0)
    do("take", pick=0)
    do("settle", pick=0)
    do("continue_batch", thread="b")
    do("finish", thread="b", closes=True)
    # A late worker notes the question while another asks, which dies.
    do("park", thread="a", count=1, asks=True)
    do("take", pick=0)
    do("time_passes", seconds=31.0)
    do("take", pick=0)
    do("note", pick=1)
    do("time_passes", seconds=31.0)
    do("take", pick=0)
    do("settle", pick=0)
    do("take", pick=0)
    do("release", pick=0, wait_s=None)
    do("note", pick=1)  # after the verdict was shown
    copies()
    do("take", pick=0)
    do("release", pick=0, wait_s=None)
    do("continue_batch", thread="a")
    do("finish", thread="a", closes=True)
    # Settled while a worker asks, which dies; a death before a release; a call that is withdrawn.
    do("park", thread="a", count=2, asks=True)
    do("take", pick=0)
    do("settle", pick=0)
    do("time_passes", seconds=31.0)
    do("take", pick=0)
    do("take", pick=1)
    do("time_passes", seconds=31.0)
    do("take", pick=1)
    do("release", pick=0, wait_s=1)
    do("time_passes", seconds=5.0)
    do("take", pick=1)
    do("release", pick=0, wait_s=60)
    do("continue_batch", thread="a")
    do("finish", thread="a", closes=True)
    copies()
    play.teardown()
