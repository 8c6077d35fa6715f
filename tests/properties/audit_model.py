"""The audit as a state machine: batches end, workers drain and die, threads are forgotten.

The scripts, the drain and the codec are the real ones; the database is a dictionary with the
contract of a sink.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from assistant_queue.auditing import AuditRecord, Erasure
from assistant_queue.errors import AuditUnavailable
from assistant_queue.store.calls import AuditRules, Namespace
from assistant_queue.store.ops import control
from assistant_queue.worker.audit_drain import LEASE_S, AuditDrain
from tests.contract.store_rig import Rig

MOST = 4
"""Entries of the spool."""
THREADS = ("a", "b:🙂")
WORKERS = (0, 1)


class Killed(BaseException):
    """A worker dies."""


class MemorySink:
    """A database with the contract of a sink.

    Attributes:
        rows: By the batch's id: its thread, and how often it was inserted.
        is_away: It refuses everything.
        dies: A worker dies `before` the next commit, or `after` it.
    """

    spool = MOST
    max_chars = 1000

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}
        self.holder = ""
        self.lost = 0
        self.is_away = False
        self.dies = ""

    def take_over(self, queue: str, holder: str) -> None:
        _ = queue
        if self.is_away:
            raise AuditUnavailable("away")
        self.holder = holder

    def write(
        self, queue: str, holder: str, entries: Sequence[AuditRecord | Erasure], lost: int
    ) -> bool:
        _ = queue
        if self.is_away:
            raise AuditUnavailable("away")
        dies, self.dies = self.dies, ""
        if dies == "before":
            raise Killed
        if holder != self.holder:
            return False
        for entry in entries:
            if isinstance(entry, Erasure):
                self.rows = {
                    batch: thread
                    for batch, thread in self.rows.items()
                    if thread != entry.thread_id
                }
            else:
                assert entry.messages
                self.rows.setdefault(entry.batch_id, entry.thread_id)
        self.lost = max(self.lost, lost)
        if dies == "after":
            raise Killed
        return True

    def close(self) -> None:
        """Nothing is open."""


class AuditMachine(RuleBasedStateMachine):
    """Batches that ended are in the sink once, unless they were forgotten, or lost and counted."""

    make_rig: Callable[[], Rig]

    @initialize()
    def set_up(self) -> None:
        self.rig = self.make_rig()
        self.rig.namespace = Namespace(
            self.rig.prefix, self.rig.clock, audit=AuditRules(most=MOST, max_chars=1000)
        )
        self.sink = MemorySink()
        self.workers = {worker: self.hired() for worker in WORKERS}
        self.expected: dict[str, str] = {}
        self.waiting: list[str] = []
        self.lost = 0

    def hired(self) -> AuditDrain:
        drain = AuditDrain(self.rig.namespace, self.sink, self.rig.client)
        drain._store.close()
        # Its calls are noted, to be sent again.
        drain._store = self.rig  # type: ignore[assignment]
        return drain

    @rule(thread=st.sampled_from(THREADS), fails=st.booleans(), replies=st.booleans())
    def a_batch_ends(self, thread: str, fails: bool, replies: bool) -> None:
        self.rig.add(thread, delay_s=0)
        lease = self.rig.claim(thread)
        if fails:
            self.rig.bury(lease)
        elif replies:
            self.rig.reply(lease, at_once=False)
        else:
            self.rig.finish(lease)
        if len(self.spool()) > len(self.waiting):
            assert len(self.waiting) < MOST, "the spool has a bound"
            self.expected[lease.claimed.batch.id] = thread
            self.waiting.append(lease.claimed.batch.id)
        else:
            assert len(self.waiting) >= MOST, "there was room"
            self.lost += 1

    @rule(
        worker=st.sampled_from(WORKERS),
        away=st.booleans(),
        dies=st.sampled_from(["", "", "before", "after"]),
    )
    def a_worker_drains(self, worker: int, away: bool, dies: str) -> None:
        self.sink.is_away = away
        self.sink.dies = dies
        try:
            self.workers[worker].step()
        except Killed:
            self.workers[worker] = self.hired()
        self.sink.is_away = False
        self.sink.dies = ""
        self.waiting = self.waiting[len(self.waiting) - len(self.spool()) :]
        if not self.waiting:
            assert self.sink.rows == self.expected

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_hangs_while_another_takes_over(self, worker: int) -> None:
        """Entries are read, and written after the lease has lapsed and another has drained."""
        other = self.workers[1 - worker]
        real = self.sink.write

        def hangs(*args: object) -> bool:
            self.sink.write = real  # type: ignore[method-assign]
            self.time_passes(seconds=LEASE_S + 1)
            other.step()
            self.forget(thread=THREADS[0])
            other.step()
            return real(*args)  # type: ignore[arg-type]

        self.sink.write = hangs  # type: ignore[method-assign, assignment]
        self.workers[worker].step()
        self.sink.write = real  # type: ignore[method-assign]
        self.waiting = self.waiting[len(self.waiting) - len(self.spool()) :]

    @rule(seconds=st.sampled_from([0.5, LEASE_S + 1]))
    def time_passes(self, seconds: float) -> None:
        self.rig.clock.advance(seconds)

    @rule(thread=st.sampled_from(THREADS))
    def forget(self, thread: str) -> None:
        self.rig.run(control.forget(self.rig.namespace, thread))
        self.expected = {one: of for one, of in self.expected.items() if of != thread}
        spool = self.spool()
        for entry in spool[:-1]:
            assert f" {thread}" not in entry or not entry.endswith("}"), "a text is left"
        if len(spool) > len(self.waiting):
            self.waiting.append("")

    @precondition(lambda self: self.rig.sent)
    @rule(name=st.sampled_from(["finish", "bury", "forget", "drain_audit"]))
    def copies_arrive(self, name: str) -> None:
        """Late copies of all calls change no entry."""
        before = self.spool()
        for call in [one for one in self.rig.sent if one.script and one.script.name == name]:
            self.rig.again(call)
        assert self.spool() == before, f"a copy of {name} changed the spool"

    def spool(self) -> list[str]:
        found = self.rig.client.lrange(self.rig.keys.audit, 0, -1)
        return [one.decode() if isinstance(one, bytes) else str(one) for one in found]

    def teardown(self) -> None:
        if not hasattr(self, "rig"):
            return
        for _ in range(3):
            self.rig.clock.advance(LEASE_S + 1)
            last = self.hired()
            last.step()
            last.step()
        assert self.sink.rows == self.expected
        assert not self.spool()
        assert not self.lost or self.sink.lost == self.lost


def machine(make_rig: Callable[[], Rig]) -> type[AuditMachine]:
    """The machine on a Redis."""
    return type("AuditMachine", (AuditMachine,), {"make_rig": staticmethod(make_rig)})


def audit_tour(play: AuditMachine) -> None:
    """A fixed walk along every promise."""
    a, b = THREADS

    def ends(thread: str = a, *, fails: bool = False, replies: bool = False) -> None:
        play.a_batch_ends(thread=thread, fails=fails, replies=replies)

    def drains(worker: int = 0, *, away: bool = False, dies: str = "") -> None:
        play.a_worker_drains(worker=worker, away=away, dies=dies)

    play.set_up()
    # Each way in which a batch ends, and copies of the calls.
    ends()
    ends(b, fails=True)
    ends(replies=True)
    for name in ("finish", "bury"):
        play.copies_arrive(name=name)
    drains()
    drains(1)
    ends()
    drains()
    drains()
    ends(b)
    play.copies_arrive(name="drain_audit")
    # Deaths before and after the commit.
    for dies in ("before", "after"):
        ends()
        drains(dies=dies)
        drains(1)
        play.time_passes(seconds=LEASE_S + 1)
        drains(1)
        drains(1)
    # The database is away: a spool that is full.
    for _ in range(MOST + 2):
        ends(b)
        drains(1, away=True)
    play.time_passes(seconds=LEASE_S + 1)
    drains()
    drains()
    # Forgotten: in the database, in the spool, between two others, while it is written.
    ends(b)
    ends()
    ends(b)
    play.forget(thread=a)
    play.copies_arrive(name="forget")
    ends()
    drains()
    drains()
    play.forget(thread=b)
    ends(b)
    drains()
    drains()
    ends()
    ends(b)
    play.a_worker_hangs_while_another_takes_over(worker=0)
    drains(1)
    ends()
    play.time_passes(seconds=LEASE_S + 1)
    drains()
    drains()
    play.teardown()
