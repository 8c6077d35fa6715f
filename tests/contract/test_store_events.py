"""The scripts against the table: every event in every state, repeated calls, foreign tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import TRANSITIONS, Phase, ThreadEvent, ThreadState
from assistant_queue.errors import ApprovalNotFound, BatchNotFound, LeaseLost
from assistant_queue.store.calls import Call, Operation
from assistant_queue.store.ops import leases
from assistant_queue.store.ops.leases import Lease, NoLease
from tests.contract.store_rig import Rig

S = ThreadState
E = ThreadEvent


@dataclass
class Scene:
    """A thread in some state, with a lease (held or forged) and a failed batch for the events."""

    rig: Rig
    lease: Lease
    failed: str


def arrange(rig: Rig, state: ThreadState, *, asks: bool = False) -> Scene:
    """Bring a thread into a state; `asks`: with a call that waits, where a batch is under way."""
    rig.add(message_id="doomed", delay_s=0)
    doomed = rig.claim()
    rig.bury(doomed)
    failed = doomed.claimed.batch.id
    lease = rig.forged()
    if state is not S.IDLE:
        rig.add(message_id="first", delay_s=0)
    if state in (S.ACTIVE, S.RETRYING, S.HELD, S.PARKED):
        lease = rig.claim()
    if state is S.PARKED or (asks and lease.claimed.batch.messages):
        rig.park(lease, rig.open_call("c1"), new=1, wait_s=0)
        lease = rig.forged() if state is S.PARKED else rig.claim()
    if state in (S.RETRYING, S.HELD):
        rig.postpone(lease, state, wait_s=0)
        lease = rig.forged()
    assert rig.state() is state
    rig.clock.advance(2)
    return Scene(rig, lease, failed)


def add(scene: Scene) -> str:
    return "duplicate" if scene.rig.add(message_id="new").duplicate else "added"


def claim(scene: Scene) -> str:
    scene.rig.clock.advance(60)  # the lease of another worker expires
    lease = scene.rig.try_claim()
    return lease.reason if isinstance(lease, NoLease) else "claimed"


def renew(scene: Scene) -> str:
    return "lost" if scene.rig.renew(scene.lease) is None else "held"


def holders(act: Callable[[Scene], object]) -> Callable[[Scene], str]:
    def attempt(scene: Scene) -> str:
        try:
            act(scene)
        except LeaseLost:
            return "lost"
        return "ok"

    return attempt


def finish(scene: Scene) -> str:
    try:
        return "pending" if scene.rig.finish(scene.lease) else "idle"
    except LeaseLost:
        return "lost"


def stop(scene: Scene) -> str:
    return "ok" if scene.rig.stop() else "none"


def settle(scene: Scene) -> str:
    try:
        return "ok" if scene.rig.settle("c1") else "again"
    except ApprovalNotFound:
        return "unknown"


def wake(scene: Scene) -> str:
    return "woken" if scene.rig.wake() else "not"


EVENTS: dict[ThreadEvent, Callable[[Scene], str]] = {
    E.ADD: add,
    E.CLAIM: claim,
    E.RENEW: renew,
    E.PROGRESS: holders(lambda scene: scene.rig.save(scene.lease)),
    E.TRIM: holders(lambda scene: scene.rig.trim(scene.lease, 1)),
    E.FINISH: finish,
    E.RETRY: holders(lambda scene: scene.rig.postpone(scene.lease, S.RETRYING)),
    E.HOLD: holders(lambda scene: scene.rig.postpone(scene.lease, S.HELD)),
    E.BURY: holders(lambda scene: scene.rig.bury(scene.lease)),
    E.PARK: holders(lambda scene: scene.rig.park(scene.lease, scene.rig.open_call("c2"), new=1)),
    E.SETTLE: settle,
    E.CLOSE: holders(lambda scene: scene.rig.close_calls(scene.lease, "c1")),
    E.STOP: stop,
    E.STOPPED: holders(lambda scene: scene.rig.stopped(scene.lease)),
    E.JOIN: holders(lambda scene: scene.rig.join(scene.lease)),
    E.REFUSE: holders(lambda scene: scene.rig.refuse(scene.lease)),
    E.RETURN: holders(lambda scene: scene.rig.retry_failed(scene.failed)),
    E.WAKE: wake,
}
SAID = {E.ADD: "added", E.CLAIM: "claimed", E.RENEW: "held", E.FINISH: "idle"}
REFUSED = {E.CLAIM: "idle", E.STOP: "none", E.SETTLE: "unknown"}
PAIRS = list(itertools.product(S, E))


def test_every_event_is_tried() -> None:
    assert set(EVENTS) == set(ThreadEvent)


@pytest.mark.parametrize(
    ("state", "event"), PAIRS, ids=[f"{state.value}-{event.value}" for state, event in PAIRS]
)
def test_each_event_leads_to_the_state_of_the_table(
    store: Rig, state: ThreadState, event: ThreadEvent
) -> None:
    scene = arrange(store, state, asks=event in (E.SETTLE, E.CLOSE))
    before = store.snapshot()
    word = EVENTS[event](scene)
    if (state, event) in TRANSITIONS:
        assert store.state() in TRANSITIONS[state, event]
        if event is not E.WAKE:
            assert word == SAID.get(event, "ok")
    else:
        assert word == REFUSED.get(event, "lost")
        assert store.snapshot() == before, "a refused event changes nothing"
    store.check()


@pytest.mark.parametrize("event", [E.FINISH, E.BURY, E.STOPPED], ids=lambda event: event.value)
def test_the_end_of_a_batch_leads_to_pending_if_messages_wait(
    store: Rig, event: ThreadEvent
) -> None:
    scene = arrange(store, S.ACTIVE)
    store.add()
    word = EVENTS[event](scene)
    assert (store.state(), word) == (S.PENDING, "pending" if event is E.FINISH else "ok")
    store.check()


def test_a_lost_lease_names_its_thread(store: Rig) -> None:
    with pytest.raises(LeaseLost, match="'thread' is another worker's now; nothing was written"):
        store.save(store.forged())


HOLDERS = [E.RENEW, E.PROGRESS, E.TRIM, E.FINISH, E.RETRY, E.HOLD, E.BURY]


@pytest.mark.parametrize("event", HOLDERS, ids=lambda event: event.value)
def test_a_worker_writes_nothing_after_its_lease_was_taken_over(
    store: Rig, event: ThreadEvent
) -> None:
    scene = arrange(store, S.ACTIVE)
    store.clock.advance(31)
    store.claim()
    before = store.snapshot()
    assert EVENTS[event](scene) == "lost"
    assert store.snapshot() == before


@pytest.mark.parametrize("event", HOLDERS, ids=lambda event: event.value)
def test_a_worker_with_an_expired_lease_may_write_until_it_is_replaced(
    store: Rig, event: ThreadEvent
) -> None:
    scene = arrange(store, S.ACTIVE)
    store.clock.advance(31)
    assert EVENTS[event](scene) != "lost"
    store.check()


# --- the same call twice --------------------------------------------------------------------------


def repeated(operation: Operation[object]) -> Operation[object]:
    """Send each call twice, as redis-py does after a lost reply; return the second reply."""
    reply: object = None
    while True:
        try:
            step = operation.send(reply)
        except StopIteration as stop:
            return stop.value
        assert isinstance(step, Call)
        yield step
        reply = yield step


class Twice(Rig):
    """A rig that can send every call twice."""

    doubles = False

    def run(self, operation):  # type: ignore[no-untyped-def]
        return super().run(repeated(operation) if self.doubles else operation)


def holder_scene(rig: Rig, case: str) -> Lease:
    rig.add(message_id="one", delay_s=0)
    rig.add(message_id="two", delay_s=0)
    lease = rig.claim(token="token-x", batch_id="batch-x")
    if "delivering" in case:
        rig.complete(lease)
    if "taken over" in case:
        rig.clock.advance(31)
        lease = rig.claim(token="token-y")
    if "waiting" in case:
        rig.add(message_id="three", delay_s=0)
    return lease


def a_result(rig: Rig, lease: Lease):  # type: ignore[no-untyped-def]
    result = rig.result(lease)
    return replace(result, message_ids=("one", "two"), messages_processed=2)


REPEATED: dict[str, Callable[[Rig, Lease], object]] = {
    "add": lambda rig, _: rig.add(message_id="new").duplicate,
    "claim": lambda rig, lease: rig.claim(token=lease.token).claimed,
    "renew": lambda rig, lease: (renewed := rig.renew(lease)) and renewed.until_ms,
    "progress": lambda rig, lease: rig.save(
        lease, Phase.RUNNING, Progress(attempts=1, run_id="r"), ["one", "two"]
    ),
    "trim": lambda rig, lease: rig.trim(lease, 1),
    "complete": lambda rig, lease: rig.complete(lease),
    "finish": lambda rig, lease: rig.finish(lease, result=a_result(rig, lease)),
    "finish, waiting": lambda rig, lease: rig.finish(lease, result=a_result(rig, lease)),
    "finish, delivering": lambda rig, lease: rig.finish(lease, result=a_result(rig, lease)),
    "finish, delivering, waiting": lambda rig, lease: rig.finish(
        lease, result=a_result(rig, lease)
    ),
    "finish, delivering, taken over": lambda rig, lease: rig.finish(
        lease, result=a_result(rig, lease)
    ),
    "finish, delivering, taken over, waiting": lambda rig, lease: rig.finish(
        lease, result=a_result(rig, lease)
    ),
    "retry": lambda rig, lease: rig.postpone(lease, S.RETRYING, 7),
    "retry at once": lambda rig, lease: rig.postpone(lease, S.RETRYING, 0),
    "hold": lambda rig, lease: rig.postpone(lease, S.HELD, 7),
    "hold, waiting": lambda rig, lease: rig.postpone(lease, S.HELD, 7),
    "bury": lambda rig, lease: rig.bury(lease),
    "bury, waiting": lambda rig, lease: rig.bury(lease),
    "bury and pause": lambda rig, lease: rig.bury(lease, pause=True),
    "map": lambda rig, lease: rig.run(
        leases.set_conversation(rig.namespace, lease.thread_id, "conv_1")
    ),
    "wake": lambda rig, _: rig.wake(),
    "sweep": lambda rig, _: (rig.clock.advance(40), rig.sweep().overdue)[1],
}
REPLY_MAY_DIFFER = {"wake", "sweep"}


@pytest.mark.parametrize("case", REPEATED)
def test_a_call_that_is_sent_twice_happens_once(store: Rig, case: str) -> None:
    results = []
    snapshots = []
    for times in (1, 2):
        rig = Twice(store.client, f"{store.prefix}x{times}")
        lease = holder_scene(rig, case)
        rig.doubles = times == 2
        results.append(REPEATED[case](rig, lease))
        rig.doubles = False
        rig.check()
        snapshots.append(summary(rig))
    assert snapshots[0] == snapshots[1]
    if case not in REPLY_MAY_DIFFER:
        assert results[0] == results[1]


def summary(rig: Rig) -> dict[str, object]:
    """Return the content of the keys, without random ids."""
    fields = {name: value for name, value in rig.thread_hash().items() if name != "wake"}
    return {
        "thread": fields,
        "pending": rig.pending(),
        "frozen": rig.frozen(),
        "counters": rig.counters(),
        "due": rig.due(),
        "queued": len(rig.queued()),
        "scheduled": sorted(rig.scheduled().values()),
        "jobs": len(rig.jobs()),
        "keys": [key.removeprefix(rig.prefix) for key in rig.all_keys()],
        "one": {
            name: value
            for name, value in rig.hash(rig.keys.message("one")).items()
            if name not in ("job", "nonce")
        },
    }


def test_a_second_return_reports_that_the_batch_is_gone(store: Rig) -> None:
    scene = arrange(store, S.IDLE)
    store.retry_failed(scene.failed)
    before = store.snapshot()
    with pytest.raises(BatchNotFound, match=scene.failed):
        store.retry_failed(scene.failed)
    assert store.snapshot() == before


def test_a_claim_that_is_repeated_gives_the_same_lease(store: Rig) -> None:
    store.add(delay_s=0)
    first = store.claim(token="mine")
    store.clock.advance(0.5)
    again = store.claim(token="mine", batch_id="another")
    assert replace(again, now_ms=first.now_ms) == first
    assert again.now_ms == first.now_ms + 500
