"""`python -m tests.benchmarks.script_cost`: Redis' CPU for each script of a batch of one, alone.

No worker and no provider run: the scripts of many batches are sent in pipelines, stage by stage,
and the CPU of the server is read between stages. So two versions can be compared, in turns, even on
a machine that has other work.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from assistant_queue.clock import SystemClock
from assistant_queue.core.account import answering
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.thread_state import Phase
from assistant_queue.core.window import Window
from assistant_queue.models import Message, RunResult, Usage
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Namespace, Operation
from assistant_queue.store.ops import leases, outcomes, producing
from assistant_queue.store.ops.leases import Lease
from assistant_queue.store.ops.outcomes import ResultRules
from assistant_queue.store.rq_jobs import RqJob
from assistant_queue.store.transport.stores import SyncStore
from tests.benchmarks.bench import PREFIX, TEXT, Bench
from tests.benchmarks.measuring import run_abreast
from tests.benchmarks.redis_profile import redis_cpu_s
from tests.benchmarks.sizes import FULL

RULES = ResultRules(result_ttl_s=86_400, keep_text=False)
USAGE = Usage(
    input_tokens=900, cached_input_tokens=512, output_tokens=120, total_tokens=1020, model="gpt-4.1"
)
RUN = "run_000000000000000000000001"
WORKER = "worker"


class Stages:
    """The calls of many batches, stage by stage, and the CPU that each stage took."""

    def __init__(self, bench: Bench, batches: int, *, is_counted: bool = True) -> None:
        self._client = bench.client
        self._store = SyncStore(bench.client)
        self._namespace = Namespace(PREFIX, SystemClock(), is_counted=is_counted)
        self._threads = [f"customer-{number}" for number in range(batches)]
        self.us: dict[str, list[float]] = {}

    def round(self) -> None:
        """Add a message to every thread, and take every batch to its end."""
        namespace = self._namespace
        now = producing.AddRules(window=Window(delay_ms=0))
        self._client.hset(wakeups.worker_key(WORKER), "name", WORKER)
        self._timed(
            "add",
            (producing.add(namespace, thread, _message(), now) for thread in self._threads),
        )
        queue = wakeups.queue_key(PREFIX)
        jobs = [
            RqJob(job_id.decode(), WORKER)
            for job_id in self._client.lpop(queue, len(self._threads))
        ]
        held: Sequence[Lease] = self._timed("claim", map(self._claim, self._threads, jobs))
        self._timed(
            "progress, sending",
            (
                leases.save(namespace, lease, Phase.SENDING, Progress(attempts=1), _ids(lease))
                for lease in held
            ),
        )
        running = Progress(attempts=1, run_id=RUN)
        self._timed(
            "progress, running",
            (leases.save(namespace, lease, Phase.RUNNING, running) for lease in held),
        )
        self._timed("finish", map(self._finish, held))

    def _claim(self, thread: str, job: RqJob) -> Operation[Any]:
        return leases.claim(
            self._namespace,
            thread,
            token=secrets.token_hex(8),
            batch_id=secrets.token_hex(12),
            lease_s=60,
            job=job,
        )

    def _finish(self, lease: Lease) -> Operation[Any]:
        batch = lease.claimed.batch
        result = RunResult(
            thread_id=batch.thread_id,
            run_id=RUN,
            batch_id=batch.id,
            message_ids=tuple(_ids(lease)),
            messages_processed=1,
            status="completed",
            incomplete_reason=None,
            reply=TEXT,
            replies=(TEXT,),
            usage=USAGE,
            attempts=1,
            started_at=moment(lease.claimed.claimed_ms),
            ended_at=datetime.now(UTC),
        )
        progress = lease.claimed.progress
        progress.run_sent_ms = lease.now_ms
        progress.first_text_ms = lease.now_ms + 400
        result = replace(answering(result, batch), model=USAGE.model)
        return outcomes.finish(
            self._namespace,
            lease,
            guard_id=lease.guard_id,
            result=result,
            anchor="msg_1",
            rules=RULES,
        )

    def _timed(self, name: str, operations: Iterable[Operation[Any]]) -> list[Any]:
        ready = list(operations)
        before = redis_cpu_s(self._client)
        done = run_abreast(self._store, ready)
        used = redis_cpu_s(self._client) - before
        self.us.setdefault(name, []).append(used / len(ready) * 1e6)
        return done


def _message() -> Message:
    return Message(id=secrets.token_hex(12), content=TEXT)


def _ids(lease: Lease) -> list[str]:
    return [message.id for message in lease.claimed.batch.messages]


def _least(stages: Stages) -> str:
    least = {name: min(us[1:]) for name, us in stages.us.items()}
    words = ", ".join(f"{name} {us:.0f}" for name, us in least.items())
    whole = sum(least.values()) - least["add"]
    return f"us of Redis' CPU: {words}; a batch, without its add: {whole:.0f}"


def main() -> None:
    """Print the lowest of the rounds for each script, and their sum without the add.

    With the metrics and without, in turns.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.script_cost", description=__doc__
    )
    parser.add_argument("--batches", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=4)
    told = parser.parse_args()
    with Bench(FULL) as bench:
        both = {
            words: Stages(bench, told.batches, is_counted=is_counted)
            for words, is_counted in (("metrics=False", False), ("defaults", True))
        }
        for _ in range(told.rounds + 1):
            for stages in both.values():
                stages.round()
    for words, stages in both.items():
        sys.stdout.write(f"{words}: {_least(stages)}\n")


if __name__ == "__main__":
    main()
