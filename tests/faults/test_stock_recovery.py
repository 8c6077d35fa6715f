"""RQ's own worker, killed together with its scheduler, in real time.

`ASSISTANT_QUEUE_FAULTS=1 python -m pytest tests/faults/test_stock_recovery.py -n 0 -rP` prints the
figures.
"""

from __future__ import annotations

import concurrent.futures
import signal
import time
from collections.abc import Callable

import pytest

from assistant_queue import AssistantMessageQueue
from tests.integration.test_recovery import COMMANDS, LEASE, Crew, crew

__all__ = ["crew"]

OPTIONS = ("--worker-ttl", "35", "--maintenance-interval", "15")
"""A worker that waits at most 20 s for a job (RQ: `worker_ttl` - 15) and then looks whether a
scheduler is missing."""
BOUND = 90.0


@pytest.fixture(autouse=True)
def _kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "watchful", (*COMMANDS["stock"], *OPTIONS))


def kill_all(crew: Crew, kind: str) -> tuple[str, str, float]:
    """Kill worker, horse and scheduler in the middle of a run, and start a successor: the message, the dead lease, and when."""
    parent = crew.hire(kind)
    message_id = crew.into_a_run()
    before = crew.token()
    since = time.monotonic()
    for process in (*parent.children(recursive=True), parent):
        process.send_signal(signal.SIGKILL)
    crew.hire(kind)
    return message_id, before, since


@pytest.mark.timeout(200)
def test_a_caller_that_waits_has_the_thread_woken(crew: Crew) -> None:
    message_id, before, since = kill_all(crew, "stock")
    assert crew.queue is not None
    with concurrent.futures.ThreadPoolExecutor() as threads:
        reply = threads.submit(crew.queue.wait_for_reply, message_id, BOUND * 2)
        crew.until_the_next_claim(
            before,
            since,
            BOUND,
            "stock, scheduler and all workers killed, a caller waits for the reply",
        )
        crew.gate.release()
        assert reply.result() == "You said: do not lose me"


ASKING: dict[str, Callable[[AssistantMessageQueue, str], object]] = {
    "get_message": lambda queue, message_id: queue.get_message(message_id),
    "get_thread_status": lambda queue, _: queue.get_thread_status("t"),
    "get_queue_status": lambda queue, _: queue.get_queue_status(),
}


@pytest.mark.timeout(200)
@pytest.mark.parametrize("call", ASKING)
def test_a_caller_that_asks_once_has_the_thread_woken(crew: Crew, call: str) -> None:
    message_id, before, since = kill_all(crew, "stock")
    assert crew.queue is not None
    time.sleep(LEASE + 3.5)
    ASKING[call](crew.queue, message_id)
    crew.until_the_next_claim(
        before,
        since,
        BOUND,
        f"stock, scheduler and all workers killed, {call} once after {LEASE + 3.5:g} s",
    )
    crew.is_answered_once(message_id)


@pytest.mark.timeout(200)
def test_with_shorter_intervals_rq_recovers_by_itself(crew: Crew) -> None:
    message_id, before, since = kill_all(crew, "watchful")
    crew.until_the_next_claim(
        before, since, BOUND, f"stock with {' '.join(OPTIONS)}, all killed, no call of any kind"
    )
    crew.is_answered_once(message_id)


@pytest.mark.timeout(1200)
def test_without_them_and_without_any_call_rq_takes_its_time(crew: Crew) -> None:
    """Its scheduler's lock outlives the scheduler by 61 s; after that the successor asks for it once it has waited 405 s twice."""
    message_id, before, since = kill_all(crew, "stock")
    crew.until_the_next_claim(before, since, 900, "stock, all killed, no call of any kind")
    crew.is_answered_once(message_id)
