"""The time until a thread continues after its worker has died.

`python -m pytest tests/integration/test_recovery.py -n 0 -rP` prints the figures.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, ToolCalls
from tests import fork_server
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import BIN, HERE, Service, wait_until

LEASE = 2.0
SLACK = 15.0
"""Seconds by which a busy machine may miss the bound before the test is red: the figures are for
people. RQ alone takes far longer."""

OURS = ("--worker-class", "assistant_queue.Worker")
COMMANDS: dict[str, tuple[str, ...]] = {
    "asyncio": ("assistant-queue", "worker"),
    "forking": ("rq", "worker", *OURS),
    "stock": ("rq", "worker", "--with-scheduler"),
    "sweep": ("assistant-queue", "sweep"),
}


class Crew(Service):
    """Worker processes of any kind, and the time from a blow to the next claim."""

    def hire(self, kind: str) -> psutil.Process:
        """Start one, and wait until it works."""
        words = COMMANDS[kind]
        rest = ["-u", self.url, self.prefix] if words[0] == "rq" else []
        environment = {
            **os.environ,
            "ASSISTANT_QUEUE_APP": "tests.integration.bot:queue",
            "PYTHONPATH": str(HERE.parent.parent),
        }
        log = self.log.with_name(f"{kind}-{len(self.processes)}.log")
        with log.open("wb") as said:
            process = fork_server.start(
                [BIN / words[0], *words[1:2], *rest, *words[2:]],
                env=environment,
                stdout=said,
                stderr=said,
            )
        self.processes.append(process)
        sign = {"asyncio": "worker ready", "sweep": "sweeping"}.get(kind, "Listening on")
        wait_until(
            lambda: sign in log.read_text(errors="replace"),
            f"the {kind} worker is ready: {log.read_text(errors='replace')}",
        )
        return psutil.Process(process.pid)

    def horse_of(self, parent: psutil.Process) -> psutil.Process:
        """The process that runs the job; a scheduler is no process group."""
        (horse,) = [child for child in parent.children() if os.getpgid(child.pid) == child.pid]
        return horse

    def token(self) -> Any:
        return self.client.hget(f"{self.prefix}:thread:t", "token")

    def into_a_run(self) -> str:
        """Add a message and wait for its run; return its id."""
        assert self.queue is not None
        gate = self.provider.hold()
        receipt = self.queue.add_message_to_thread("t", "do not lose me")
        gate.wait_reached(timeout=PATIENCE_S)
        wait_until(lambda: self.queue.get_thread_status("t").run_id, "the run's id is stored")
        self.gate = gate
        return receipt.message_id

    def until_the_next_claim(
        self,
        before: Any,
        since: float,
        bound: float,
        what: str,
        ask: Callable[[], object] = lambda: None,
    ) -> None:
        """Wait for it, and meanwhile `ask` again and again."""

        def is_claimed() -> bool:
            ask()
            return self.token() not in {before, None}

        wait_until(is_claimed, "another worker has the thread", timeout=bound + SLACK)
        taken = time.monotonic() - since
        sys.stdout.write(f"recovery: {what}: {taken:.2f} s, bound {bound:g} s\n")

    def is_answered_once(self, message_id: str) -> None:
        assert self.queue is not None
        self.gate.release()
        assert self.queue.wait_for_reply(message_id, PATIENCE_S) == "You said: do not lose me"
        assert [run.user_texts for run in self.provider.runs] == [("do not lose me",)]
        assert self.queue.get_message(message_id).attempts == 1


@pytest.fixture
def crew(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, tmp_path: Path
) -> Iterator[Crew]:
    made = Crew("asyncio", one_redis.url, prefix, provider, tmp_path / "workers.log")
    made.start(workers=0, lock_duration=LEASE)
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("kind", "whom", "bound"),
    [
        ("asyncio", "worker", LEASE + 2),
        ("forking", "horse", LEASE + 2),
        ("forking", "parent", LEASE + 2),
        ("stock", "horse", LEASE + 3),
    ],
)
def test_a_killed_workers_thread_continues_within_the_bound(
    crew: Crew, kind: str, whom: str, bound: float
) -> None:
    first = crew.hire(kind)
    message_id = crew.into_a_run()
    horse = crew.horse_of(first) if kind != "asyncio" else first
    if whom != "horse":
        crew.hire(kind)  # one worker must be left
    before = crew.token()
    since = time.monotonic()
    (horse if whom == "horse" else first).send_signal(signal.SIGKILL)
    crew.until_the_next_claim(before, since, bound, f"{kind}, {whom} killed")
    crew.is_answered_once(message_id)


def test_the_horse_dies_with_its_parent(crew: Crew) -> None:
    """Else it would hold its thread, unwatched, for as long as its run lasts."""
    parent = crew.hire("forking")
    crew.into_a_run()
    horse = crew.horse_of(parent)
    parent.send_signal(signal.SIGKILL)
    horse.wait(timeout=5)
    assert not horse.is_running()


def kill_all(parent: psutil.Process) -> None:
    """Kill a worker with its horse and its scheduler."""
    for process in (*parent.children(recursive=True), parent):
        process.send_signal(signal.SIGKILL)


def test_a_caller_that_asks_recovers_what_died_with_its_scheduler(crew: Crew) -> None:
    """RQ's next scheduler waits for the lock of the last one, and does not look for minutes."""
    parent = crew.hire("stock")
    message_id = crew.into_a_run()
    before = crew.token()
    since = time.monotonic()
    kill_all(parent)
    crew.hire("stock")
    queue = crew.queue
    assert queue is not None
    what = "stock, scheduler and all workers killed, a caller asks for the message"
    crew.until_the_next_claim(
        before, since, LEASE + 5, what, ask=lambda: queue.get_message(message_id)
    )
    crew.is_answered_once(message_id)


def test_a_sidecar_recovers_what_died_with_its_scheduler(crew: Crew) -> None:
    """Under stock workers alone this waits for RQ's own recovery: a minute and more."""
    parent = crew.hire("stock")
    message_id = crew.into_a_run()
    before = crew.token()
    since = time.monotonic()
    kill_all(parent)
    crew.hire("sweep")
    crew.hire("stock")
    ready = time.monotonic() - since
    what = (
        "stock, scheduler and all workers killed, with assistant-queue sweep, "
        f"next worker ready after {ready:.2f} s"
    )
    crew.until_the_next_claim(before, since, LEASE + 2, what)
    crew.is_answered_once(message_id)


def test_a_blocked_event_loop_keeps_its_leases(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    """They are renewed by a thread: no second worker takes the thread meanwhile."""
    provider.model = lambda turn: ToolCalls([("order", {})]) if turn.round == 0 else Reply("done")
    options: dict[str, Any] = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "model": "stand-in-model",
        "tools": [
            {
                "type": "function",
                "name": "order",
                "parameters": {"type": "object", "properties": {}},
            }
        ],
        "message_delay": 0,
        "lock_duration": 1.0,
    }
    tokens: list[Any] = []

    async def block(_thread: str, _run: str, calls: Any) -> Any:
        tokens.append(holder())
        time.sleep(4.0)  # noqa: ASYNC251 - the subject
        tokens.append(holder())
        return [{"tool_call_id": call.id, "output": "x"} for call in calls]

    made = {**options, "handle_requires_action": block}
    with AssistantMessageQueue(**made) as first, AssistantMessageQueue(**made) as second:

        def holder() -> Any:
            return second._store.client.hget(f"{prefix}:thread:t", "token")

        first.start_worker()
        second.start_worker()
        assert first.ask("t", "hello", timeout=PATIENCE_S) == "done"
        assert len(tokens) == 2, "the function was called by a second worker, too"
        assert tokens[0] == tokens[1] is not None
    assert provider.overlaps == ()
