"""Worker processes that are killed, one after another, while their batches park, resume and expire.

Each process serves a queue of each protocol, and dies when the batches of all three have reached the
step.
"""

from __future__ import annotations

from dataclasses import replace

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing.chaos.shifting import set_shift
from tests.conftest import PATIENCE_S
from tests.integration.approval_bot import INSIDE, make_queue
from tests.integration.test_weekend import Site, conversation, site, wait_until_parked

__all__ = ["site"]

PROTOCOLS = ("responses", "chat", "assistants")
PARKS = ("before ParkBatch", "after ParkBatch")
RESUMES = (
    "after ReadSettlements",
    INSIDE,
    "after Answer",
    "before Submit",
    "before CloseCalls",
    "after CloseCalls",
    "after Submit",
    "before Finish",
)
EXPIRES = ("after ReadSettlements", "before Submit", "after CloseCalls")
OPTIONS = {"lock_duration": 2.0, "request_timeout": 5.0, "max_attempts": 20}
STEP_S = 20.0
"""Longer than a lease and the grace of a request."""
TIMEOUT_S = 7 * 86400.0


class Deaths:
    """Worker processes of one site, one after another."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.plain = site.deploy(1, PROTOCOLS, **OPTIONS)
        self.queues = {name: make_queue(name, self.plain) for name in PROTOCOLS}
        self.shift_s = 0.0

    def pass_time(self, seconds: float) -> None:
        self.shift_s += seconds
        set_shift(self.site.clock, self.shift_s)

    def die_at(self, *points: str) -> None:
        for point in points:
            worker = self.site.start_worker(replace(self.plain, point=point))
            assert worker.wait(PATIENCE_S) == -9, point
            self.pass_time(STEP_S)

    def add(self, thread: str) -> dict[str, str]:
        return {
            name: queue.add_message_to_thread(thread, "refund").message_id
            for name, queue in self.queues.items()
        }

    def replies(self, asked: dict[str, str]) -> dict[str, str]:
        return {
            name: str(queue.wait_for_reply(asked[name], PATIENCE_S))
            for name, queue in self.queues.items()
        }


def test_processes_die_at_each_step_of_a_call_that_waits(site: Site) -> None:
    deaths = Deaths(site)
    asked = deaths.add("t")
    deaths.die_at(*PARKS)
    calls = {name: wait_until_parked(queue) for name, queue in deaths.queues.items()}
    for name, queue in deaths.queues.items():
        assert queue.approve(calls[name], by="eve")
    deaths.die_at(*RESUMES)
    worker = site.start_worker(deaths.plain)
    replies = deaths.replies(asked)
    for name, queue in deaths.queues.items():
        assert replies[name] == "refunded 3 by version 1\n7 left", name
        # A death in the function, and one before its output is stored, repeat the call.
        assert site.log.read(name, "call") == [[calls[name], "eve"]] * 3, name
        assert len(site.log.read(name, "stock")) == 2, name
        check(queue, "t", replies[name], "approved")
    worker.kill()
    worker.wait()

    asked = deaths.add("u")
    deaths.die_at("after ParkBatch")
    for queue in deaths.queues.values():
        wait_until_parked(queue, "u")
    deaths.pass_time(TIMEOUT_S)
    deaths.die_at(*EXPIRES)
    site.start_worker(deaths.plain)
    replies = deaths.replies(asked)
    for name, queue in deaths.queues.items():
        assert "no answer came in time" in replies[name], (name, replies)
        assert len(site.log.read(name, "call")) == 3, name
        check(queue, "u", replies[name], "expired")
    assert site.provider.overlaps == ()


def check(queue: AssistantMessageQueue, thread: str, reply: str, verdict: str) -> None:
    """One message, one answer, one record, and nothing that is left."""
    where = f"{queue.config.queue_prefix}, {thread}"
    assert conversation(queue, thread) == [("user", "refund"), ("assistant", reply)], where
    assert queue.list_failed() == [], where
    assert queue.list_approvals() == [], where
    (record,) = queue.get_timeline(thread)
    rows = [(one.name, one.verdict) for one in record.tool_calls]
    assert sorted(rows, key=str) == [("refund", verdict), ("stock", None)], where
