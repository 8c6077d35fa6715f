"""Rows about depth: what an add and a claim cost when very much is queued, beside the same with ten messages queued."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.window import Window
from assistant_queue.models import Message, RunResult, Usage
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import leases, outcomes, producing
from assistant_queue.store.ops.leases import Lease
from assistant_queue.store.ops.outcomes import ResultRules
from assistant_queue.store.transport.stores import SyncStore
from tests.benchmarks.bench import TEXT, Bench
from tests.benchmarks.measuring import Compared, compare_rounds, per_call_us, run_abreast
from tests.benchmarks.table import Row

GROUP = "depth"
LONG_GROUP = "depth long"
TARGET = 1.2
SHALLOW = 10
PER_THREAD = 5
TAKE = 10
LATER = producing.AddRules(window=Window(delay_ms=3_600_000))
AT_ONCE = producing.AddRules(window=Window(delay_ms=0))
REPLY = "It is on its way."
_ENDED = datetime(2026, 1, 1, tzinfo=UTC)
KEPT = ResultRules(result_ttl_s=60, keep_text=False)


class Filled:
    """A prefix with messages in it, and the calls that are timed there."""

    def __init__(
        self, store: SyncStore, namespace: Namespace, messages: int, per_thread: int = PER_THREAD
    ) -> None:
        self.store = store
        self.namespace = namespace
        self.ids = (f"m{number}" for number in itertools.count())
        self.threads = (f"fresh thread {number}" for number in itertools.count())
        run_abreast(
            store,
            (self._put(f"waiting {number // per_thread}", LATER) for number in range(messages)),
        )

    def _put(
        self, thread_id: str, rules: producing.AddRules
    ) -> producing.Operation[producing.Receipt]:
        return producing.add(
            self.namespace, thread_id, Message(id=next(self.ids), content=TEXT), rules
        )

    def add_us(self, thread_id: str, calls: int) -> float:
        """Add to one thread with an open window."""
        return per_call_us(lambda: self.store.run(self._put(thread_id, LATER)), calls)

    def claim_us(self, cycles: int) -> float:
        """A fresh thread's message claimed, and the thread handed back; the claim freezes a batch of one."""
        taken = 0.0
        for _ in range(cycles):
            thread_id = next(self.threads)
            self.store.run(self._put(thread_id, AT_ONCE))
            start = time.perf_counter()
            lease = self._claim(thread_id, 1)
            self.store.run(
                leases.postpone(
                    self.namespace,
                    lease,
                    state=ThreadState.HELD,
                    wait_s=3600,
                    phase=Phase.FROZEN,
                    progress=lease.claimed.progress,
                )
            )
            taken += time.perf_counter() - start
        return taken / cycles * 1e6

    def batch_us(self, thread_id: str, cycles: int) -> float:
        """Ten of one thread's messages claimed and finished, then ten others added; the adds are not timed."""
        taken = 0.0
        for _ in range(cycles):
            start = time.perf_counter()
            lease = self._claim(thread_id, TAKE)
            self.store.run(
                outcomes.finish(
                    self.namespace,
                    lease,
                    guard_id=lease.guard_id,
                    result=result_of(lease),
                    anchor=None,
                    rules=KEPT,
                )
            )
            taken += time.perf_counter() - start
            run_abreast(self.store, (self._put(thread_id, AT_ONCE) for _ in range(TAKE)))
        return taken / cycles * 1e6

    def fill_thread(self, thread_id: str, messages: int) -> None:
        """Messages of one thread that are due."""
        run_abreast(self.store, (self._put(thread_id, AT_ONCE) for _ in range(messages)))

    def _claim(self, thread_id: str, most: int) -> Lease:
        number = next(self.ids)
        lease = self.store.run(
            leases.claim(
                self.namespace,
                thread_id,
                token=f"t{number}",
                batch_id=f"b{number}",
                lease_s=3600,
                max_take=most,
            )
        )
        assert isinstance(lease, Lease), lease
        return lease


def result_of(lease: Lease) -> RunResult:
    batch = lease.claimed.batch
    ids = tuple(message.id for message in batch.messages)
    return RunResult(
        thread_id=batch.thread_id,
        run_id="resp_1",
        batch_id=batch.id,
        message_ids=ids,
        messages_processed=len(ids),
        status="completed",
        incomplete_reason=None,
        reply=REPLY,
        replies=(REPLY,),
        usage=Usage(input_tokens=70, output_tokens=30, total_tokens=100),
        attempts=1,
        started_at=_ENDED,
        ended_at=_ENDED,
    )


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    return _rows(bench, GROUP, bench.sizes.deep, bench.sizes.deep_thread)


def long_rows(bench: Bench) -> Iterator[Row]:
    """The same, ten times as deep."""
    return _rows(bench, LONG_GROUP, 10 * bench.sizes.deep, 10 * bench.sizes.deep_thread)


def _rows(bench: Bench, group: str, messages: int, in_thread: int) -> Iterator[Row]:
    sizes = bench.sizes
    calls = max(2, sizes.calls // 4)
    with bench.queue() as queue:
        store = queue.core.store
        clock = queue.core.clock

        def filled(messages: int, in_thread: int) -> Filled:
            made = Filled(store, Namespace(bench.fresh_prefix(), clock), messages)
            made.fill_thread("one thread", in_thread)
            return made

        deep = filled(messages, in_thread)

        def turns(figure: Callable[[Filled], float]) -> Compared:
            # A shallow queue that is measured gets deeper: each round has its own.
            return compare_rounds(
                lambda: [figure(filled(SHALLOW, SHALLOW)), figure(deep)], sizes.rounds
            )[0]

        queued = f"{messages:,} messages of {messages // PER_THREAD:,} threads queued"
        one = f"{in_thread:,} messages waiting in the thread"
        yield _row(
            group,
            f"add, {queued}",
            turns(partial(Filled.add_us, thread_id="waiting 0", calls=calls)),
        )
        yield _row(
            group, f"claim and hand back, {queued}", turns(partial(Filled.claim_us, cycles=calls))
        )
        yield _row(
            group, f"add, {one}", turns(partial(Filled.add_us, thread_id="one thread", calls=calls))
        )
        yield _row(
            group,
            f"claim ten and finish, {one}",
            turns(partial(Filled.batch_us, thread_id="one thread", cycles=max(2, calls // 2))),
        )


def _row(group: str, what: str, found: Compared) -> Row:
    return Row(
        group=group, what=what, here=f"{found.subject_us:.0f} us", beside=f"with {SHALLOW}: {found.baseline_us:.0f} us", ratio=found.ratio,
        spread=found.spread, target=f"<= {TARGET}", met=found.ratio <= TARGET,
    )  # fmt: skip
