"""Real deaths of real processes: kill -9, and stopped for longer than the lease."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant_queue.testing import StandInProvider
from tests import fork_server
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import BIN, HERE, Service, wait_until

LEASE = 2.0


class ProcessService(Service):
    """Workers are processes of the `assistant-queue worker` command."""

    words: tuple[str, ...] = ()

    def start_worker(self) -> None:
        environment = {
            **os.environ,
            "ASSISTANT_QUEUE_APP": "tests.integration.bot:queue",
            "PYTHONPATH": str(HERE.parent.parent),
        }
        with self.log.open("ab") as log:
            process = fork_server.start(
                [BIN / "assistant-queue", "worker", *self.words], env=environment, stdout=log
            )
        self.processes.append(process)

    def holder(self) -> subprocess.Popen[bytes]:
        """The only worker that runs at first."""
        return self.processes[0]


@pytest.fixture
def service(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, tmp_path: Path
) -> Iterator[ProcessService]:
    made = ProcessService("process", one_redis.url, prefix, provider, tmp_path / "workers.log")
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
    made.stop()


@pytest.mark.parametrize("protocol", ["responses", "assistants"])
def test_a_killed_process_is_succeeded_within_the_lease_and_the_same_run_continues(
    service: ProcessService, protocol: str
) -> None:
    service.protocol = protocol
    queue = service.start(workers=1, lock_duration=LEASE)
    gate = service.provider.hold()
    receipt = queue.add_message_to_thread("t", "do not lose me")
    gate.wait_reached(timeout=PATIENCE_S)
    wait_until(lambda: queue.get_thread_status("t").run_id, "the run's id is stored")
    late = queue.add_message_to_thread("t", "late")
    service.start_worker()
    service.holder().send_signal(signal.SIGKILL)
    gate.release()
    assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: do not lose me"
    assert queue.wait_for_reply(late.message_id, PATIENCE_S) == "You said: late"
    assert [run.user_texts for run in service.provider.runs] == [("do not lose me",), ("late",)]
    assert service.provider.overlaps == ()


def test_a_process_that_was_stopped_for_longer_than_its_lease_does_no_more_harm(
    service: ProcessService,
) -> None:
    service.on_reply = True
    queue = service.start(workers=1, lock_duration=LEASE)
    gate = service.provider.hold()
    receipt = queue.add_message_to_thread("t", "one")
    gate.wait_reached(timeout=PATIENCE_S)
    wait_until(lambda: queue.get_thread_status("t").run_id, "the run's id is stored")
    service.holder().send_signal(signal.SIGSTOP)
    service.start_worker()
    gate.release()
    assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: one"
    service.holder().send_signal(signal.SIGCONT)
    next_receipt = queue.add_message_to_thread("t", "two")
    assert queue.wait_for_reply(next_receipt.message_id, PATIENCE_S) == "You said: two"
    batches = [queue.get_message(one.message_id).batch_id for one in (receipt, next_receipt)]
    wait_until(lambda: set(batches) <= set(service.noted("replies")), "both are delivered")
    assert service.noted("replies") == batches
    assert [run.user_texts for run in service.provider.runs] == [("one",), ("two",)]
    assert queue.get_queue_status().completed_count == 2


def test_a_worker_that_is_asked_to_stop_hands_its_run_back(service: ProcessService) -> None:
    service.words = ("--shutdown-timeout", "0")
    queue = service.start(workers=1, lock_duration=20.0)
    gate = service.provider.hold()
    receipt = queue.add_message_to_thread("t", "hand me over")
    gate.wait_reached(timeout=PATIENCE_S)
    wait_until(lambda: queue.get_thread_status("t").run_id, "the run's id is stored")
    service.start_worker()
    service.holder().send_signal(signal.SIGTERM)
    service.holder().wait(PATIENCE_S)
    gate.release()
    # The lease would last 20 s more: only a run that was handed back is answered in time.
    assert queue.wait_for_reply(receipt.message_id, 15) == "You said: hand me over"
    assert len(service.provider.runs) == 1


def test_redis_may_restart_in_the_middle_of_a_run(
    service: ProcessService, tmp_path: Path, one_redis: RedisServer
) -> None:
    own = RedisServer(one_redis.program, tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    own.start()
    try:
        restarted = ProcessService(
            "process", own.url, "restart", service.provider, tmp_path / "restart.log"
        )
        queue = restarted.start(workers=1, lock_duration=LEASE)
        gate = service.provider.hold()
        receipt = queue.add_message_to_thread("t", "durable")
        gate.wait_reached(timeout=PATIENCE_S)
        wait_until(lambda: queue.get_thread_status("t").run_id, "the run's id is stored")
        late = queue.add_message_to_thread("t", "late")
        own.stop()
        gate.release()
        own.start()
        assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: durable"
        assert queue.wait_for_reply(late.message_id, PATIENCE_S) == "You said: late"
        assert [run.user_texts for run in service.provider.runs] == [("durable",), ("late",)]
        restarted.stop()
    finally:
        own.stop()
