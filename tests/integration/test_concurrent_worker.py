"""`ConcurrentWorker` and `assistant-queue worker`: real processes, real signals, RQ's command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
import redis
import rq
from rq import command as rq_command
from rq import suspension

from assistant_queue import AssistantMessageQueue, ConcurrentWorker, Worker
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, ToolCalls
from tests import fork_server
from tests.conftest import PATIENCE_S, RedisServer, free_port
from tests.integration.conftest import BIN, HERE, wait_until
from tests.integration.terminal import line_of, wait_for_line


class Bench:
    """One queue, its options as the app of worker processes, and those processes."""

    def __init__(self, url: str, prefix: str, provider: StandInProvider) -> None:
        self.url = url
        self.prefix = prefix
        self.provider = provider
        self.client = redis.Redis.from_url(url)
        self.options: dict[str, Any] = {
            "redis_url": url,
            "queue_prefix": prefix,
            "openai_api_key": provider.api_key,
            "openai_base_url": provider.base_url,
            "model": "stand-in-model",
            "message_delay": 0,
            "lock_duration": 3.0,
        }
        self.app = "tests.integration.bot:queue"
        self.processes: list[subprocess.Popen[str]] = []
        self.forks = True

    def queue(self, **options: Any) -> AssistantMessageQueue:
        return AssistantMessageQueue(**{**self.options, **options})

    def start(self, *words: str, ready: bool = True, **options: Any) -> subprocess.Popen[str]:
        """Start `assistant-queue worker` with these words, or the command at a path."""
        bot = json.dumps(
            {"options": {**self.options, **options}, "tools": False, "on_reply": False}
        )
        environment = {
            **os.environ,
            "BOT": bot,
            "ASSISTANT_QUEUE_APP": self.app,
            "PYTHONPATH": str(HERE.parent.parent),
        }
        ours = [sys.executable, "-m", "assistant_queue.cli", "worker"]
        command = list(words) if words and words[0].startswith("/") else [*ours, *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process: subprocess.Popen[str] = (
            fork_server.start(command, env=environment, **pipes)
            if self.forks
            else subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
        )
        self.processes.append(process)
        if ready:
            line_of(process.stdout)
        return process

    def rq_worker(
        self, *words: str, queues: tuple[str, ...] = (), **options: Any
    ) -> subprocess.Popen[str]:
        names = queues or (self.prefix,)
        line = [
            str(BIN / "rq"),
            "worker",
            "-u",
            self.url,
            *names,
            "--worker-class",
            "assistant_queue.ConcurrentWorker",
            *words,
        ]
        process = self.start(*line, ready=False, **options)
        wait_until(
            lambda: self.workers() or process.poll() is not None, "the worker registers with RQ"
        )
        return process

    def workers(self) -> list[rq.worker.BaseWorker]:
        return rq.Worker.all(queue=rq.Queue(self.prefix, connection=self.client))

    def executing(self) -> int:
        return int(rq.Queue(self.prefix, connection=self.client).started_job_registry.count)

    def info(self) -> str:
        """Return the output of `rq info`."""
        command = [BIN / "rq", "info", "-u", self.url, "--raw", self.prefix]
        done = fork_server.run(command, env=os.environ, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()  # the children of several processes die with their parent
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    sys.stdout.write(stream.read()[-1000:])
                    stream.close()
        self.client.delete(suspension.WORKERS_SUSPENDED)
        for pattern in (f"{self.prefix}*", f"rq:*{self.prefix}*"):
            names = list(self.client.scan_iter(match=pattern, count=1000))
            if names:
                self.client.delete(*names)
        self.client.close()


@pytest.fixture
def bench(one_redis: RedisServer, prefix: str, provider: StandInProvider) -> Iterator[Bench]:
    made = Bench(one_redis.url, prefix, provider)
    yield made
    made.close()


STARTS = {
    "rq worker": lambda bench, **options: bench.rq_worker(**options),
    "our command": lambda bench, **options: bench.start(**options),
}
EVERY_START = pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)


# --- RQ's books -----------------------------------------------------------------------------------


@EVERY_START
def test_rq_info_is_true_while_runs_are_in_the_air(bench: Bench, start: Any) -> None:
    start(bench, concurrency=100)
    with bench.provider.hold() as gate, bench.queue() as queue:
        receipts = [queue.add_message_to_thread(f"t{number}", "hello") for number in range(60)]
        wait_until(lambda: bench.executing() == 60, "sixty runs are in the air")
        shown = bench.info()
        assert f"queue {bench.prefix} 0, 60 executing, 0 finished, 0 failed" in shown
        (worker,) = bench.workers()
        assert f"{worker.pid}) busy {bench.prefix}. jobs: " in shown
        assert worker.failed_job_count == 0
        assert psutil.pid_exists(worker.pid)
        if hasattr(worker, "get_current_executions"):
            assert len(worker.get_current_executions()) == 60
        gate.release()
        for receipt in receipts:
            queue.wait_for_reply(receipt.message_id, PATIENCE_S)
    wait_until(lambda: bench.executing() == 0, "all have ended")
    (worker,) = bench.workers()
    # On a busy machine a wake-up can be taken for lost between its pop and its claim; the second
    # one finds nothing to do, and ends, too.
    assert worker.successful_job_count >= 60
    shown = bench.info()
    assert f"queue {bench.prefix} 0, 0 executing" in shown
    assert (
        f"{worker.pid}) idle {bench.prefix}. jobs: {worker.successful_job_count} finished, 0 failed"
        in shown
    )
    left = [
        key
        for key in bench.client.scan_iter(match="rq:execution:*")
        if bench.client.hget(key, "worker_name") == worker.name.encode()
    ]
    assert left == []


@EVERY_START
def test_a_worker_that_stops_leaves_no_record(bench: Bench, start: Any) -> None:
    process = start(bench)
    with bench.queue() as queue:
        queue.ask("t", "hello", timeout=PATIENCE_S)
    process.terminate()
    assert process.wait(PATIENCE_S) == 0
    assert bench.workers() == []
    info = [BIN / "rq", "info", "-u", bench.url, bench.prefix]
    said = fork_server.run(info, env=os.environ, timeout=PATIENCE_S)
    assert said.returncode == 0, said.stderr
    assert "0 workers" in said.stdout


def test_a_worker_on_a_thread_stands_in_rqs_books_too(bench: Bench) -> None:
    with bench.queue() as queue:
        handle = queue.start_worker()
        (worker,) = bench.workers()
        assert worker.pid == os.getpid()
        queue.ask("t", "hello", timeout=PATIENCE_S)
        wait_until(lambda: bench.workers()[0].successful_job_count == 1, "the job is counted")
        handle.stop()
    assert bench.workers() == []


@EVERY_START
def test_rq_suspends_and_resumes_it(bench: Bench, start: Any) -> None:
    start(bench)
    suspension.suspend(bench.client)
    wait_until(lambda: bench.workers()[0].get_state() == "suspended", "it is suspended")
    with bench.queue() as queue:
        receipt = queue.add_message_to_thread("t", "hello")
        wait_until(
            lambda: bench.client.llen(f"rq:queue:{bench.prefix}") == 1,
            "the wake-up waits in the queue",
        )
        wait_until(lambda: bench.workers()[0].get_state() == "suspended", "it still is")
        assert bench.client.llen(f"rq:queue:{bench.prefix}") == 1
        assert bench.provider.runs == ()
        suspension.resume(bench.client)
        assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: hello"
    wait_until(lambda: bench.workers()[0].get_state() == "idle", "it is idle again")


@EVERY_START
def test_rqs_shutdown_command_stops_it(bench: Bench, start: Any) -> None:
    process = start(bench)
    rq_command.send_shutdown_command(bench.client, bench.workers()[0].name)
    assert process.wait(PATIENCE_S) == 0


def test_rqs_other_commands_are_refused_as_those_of_others(bench: Bench) -> None:
    process = bench.start()
    with bench.provider.hold() as gate, bench.queue() as queue:
        receipt = queue.add_message_to_thread("t", "hello")
        gate.wait_reached(timeout=PATIENCE_S)
        rq_command.send_kill_horse_command(bench.client, bench.workers()[0].name)
        wait_for_line(process.stderr, "has no effect on this worker")
        gate.release()
        assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: hello"


def test_records_of_a_killed_worker_run_out_and_are_cleared_away(bench: Bench) -> None:
    """No job of a dead worker is in RQ's failed registry: another worker has its batch."""
    started = f"rq:wip:{bench.prefix}"
    bench.client.zadd(started, {"gone:token": 1.0})  # its hash has expired with it
    theirs = rq.Queue(bench.prefix, connection=bench.client).enqueue("time.sleep", 0)
    bench.client.zadd(started, {f"{theirs.id}:token": 1.0})  # RQ's to decide about
    worker = ConcurrentWorker([bench.prefix], connection=redis.Redis.from_url(bench.url))
    worker._beaten = -1000.0
    worker.register_birth()
    assert worker.beat() is False
    assert bench.client.zrange(started, 0, -1) == [f"{theirs.id}:token".encode()]
    worker.register_death()
    worker.connection.close()


def test_a_forking_worker_has_a_state_from_its_birth_on(bench: Bench) -> None:
    worker = Worker([bench.prefix], connection=redis.Redis.from_url(bench.url))
    worker.register_birth()
    (shown,) = rq.Worker.all(queue=rq.Queue(bench.prefix, connection=bench.client))
    assert shown.get_state() != "?"
    worker.register_death()
    worker.connection.close()


def test_what_is_used_of_rq(bench: Bench) -> None:
    """A failure means that RQ has changed: only `worker/rq_concurrent_worker.py` depends on it."""
    for name in (
        "register_birth",
        "register_death",
        "subscribe",
        "unsubscribe",
        "set_state",
        "get_state",
        "heartbeat",
        "queue_names",
        "work",
    ):
        assert callable(getattr(rq.worker.Worker, name)), name
    for option in (
        "burst",
        "logging_level",
        "date_format",
        "log_format",
        "max_jobs",
        "max_idle_time",
    ):
        assert option in rq.worker.Worker.work.__code__.co_varnames, option
    assert suspension.WORKERS_SUSPENDED == "rq:suspended"
    assert rq.worker.Worker.redis_worker_namespace_prefix == "rq:worker:"
    made = rq.worker.Worker([bench.prefix], connection=bench.client, prepare_for_work=False)
    assert made.key == f"rq:worker:{made.name}"
    assert (made.worker_ttl, made.hostname, made.pid) == (420, None, None)


def test_rqs_worker_pool_starts_and_stops_several(bench: Bench) -> None:
    line = [
        str(BIN / "rq"),
        "worker-pool",
        "-n",
        "2",
        "-u",
        bench.url,
        "--worker-class",
        "assistant_queue.ConcurrentWorker",
        bench.prefix,
    ]
    pool = bench.start(*line, ready=False)
    wait_until(lambda: len(bench.workers()) == 2, "both register")
    with bench.queue() as queue:
        assert queue.ask("t", "hello", timeout=PATIENCE_S) == "You said: hello"
    pool.terminate()
    assert pool.wait(PATIENCE_S) == 0
    assert bench.workers() == []


# --- taking ---------------------------------------------------------------------------------------


@EVERY_START
def test_it_takes_no_more_than_it_has_room_for(bench: Bench, start: Any) -> None:
    start(bench, concurrency=3)
    with bench.provider.hold() as gate, bench.queue() as queue:
        receipts = [queue.add_message_to_thread(f"t{number}", "hello") for number in range(8)]
        gate.wait_reached(count=3, timeout=PATIENCE_S)
        wait_until(
            lambda: bench.client.llen(f"rq:queue:{bench.prefix}") == 5,
            "the others wait in the queue, for any worker",
        )
        wait_until(lambda: bench.executing() == 3, "three are shown as running")
        wait_until(
            lambda: (
                [(one.concurrency, one.running) for one in queue.get_metrics().workers] == [(3, 3)]
            ),
            "the worker shows that it is full",
        )
        assert queue.get_metrics().oldest_due_s > 0
        gate.release()
        for receipt in receipts:
            queue.wait_for_reply(receipt.message_id, PATIENCE_S)


@EVERY_START
def test_a_job_id_that_is_no_text_stops_no_worker(bench: Bench, start: Any) -> None:
    """A client that can write to the queue's list can write anything: an id without a job, too."""
    bench.client.set(f"rq:job:{bench.prefix}", "no job")
    bench.client.rpush(f"rq:queue:{bench.prefix}", b"\xff\xfe", b"", bench.prefix)
    start(bench)
    with bench.queue() as queue:
        assert queue.ask("t", "hello", timeout=PATIENCE_S) == "You said: hello"
    assert bench.client.llen(f"rq:queue:{bench.prefix}") == 0


def test_rqs_burst_max_jobs_and_max_idle_time(bench: Bench) -> None:
    with bench.queue() as queue:
        for number in range(5):
            queue.add_message_to_thread(f"t{number}", "hello")
        assert bench.rq_worker("--max-jobs", "2").wait(PATIENCE_S) == 0
        assert queue.get_queue_status().completed_count == 2
        assert bench.rq_worker("--burst").wait(PATIENCE_S) == 0
        assert queue.get_queue_status().completed_count == 5
        queue.add_message_to_thread("late", "hello")
        assert bench.rq_worker("--max-idle-time", "1").wait(PATIENCE_S) == 0
        assert queue.get_queue_status().completed_count == 6


@pytest.mark.parametrize("how", ["rq worker", "our command"])
def test_one_process_serves_several_queues_in_turn(bench: Bench, how: str) -> None:
    names = (bench.prefix, f"{bench.prefix}-2")
    with bench.queue() as first, bench.queue(queue_prefix=names[1]) as second:
        ids = [
            [
                queue.add_message_to_thread(f"t{number}", queue.config.queue_prefix).message_id
                for number in range(10)
            ]
            for queue in (first, second)
        ]
        if how == "rq worker":
            bench.rq_worker(queues=names, concurrency=1)
        else:
            bench.start("--prefix", names[0], "--prefix", names[1], "--concurrency", "1")
        for queue, own in zip((first, second), ids, strict=True):
            for message_id in own:
                assert (
                    queue.wait_for_reply(message_id, PATIENCE_S)
                    == f"You said: {queue.config.queue_prefix}"
                )
        assert (
            first.get_queue_status().completed_count
            == second.get_queue_status().completed_count
            == 10
        )
    served = [run.user_texts[0] for run in bench.provider.runs]
    assert all(served[index] != served[index + 1] for index in range(0, 20, 2)), (
        "one of each, in turn"
    )


def test_rqs_command_on_another_queue_than_the_apps_is_refused(bench: Bench) -> None:
    process = bench.rq_worker(queues=("elsewhere",))
    assert process.wait(PATIENCE_S) != 0
    assert process.stderr is not None
    assert (
        f"the app's queue_prefix is {bench.prefix!r}; start it on that queue"
        in process.stderr.read()
    )


def test_a_time_to_finish_that_is_none_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANT_QUEUE_SHUTDOWN_TIMEOUT", "soon")
    process = bench.rq_worker()
    assert process.wait(PATIENCE_S) != 0
    assert process.stderr is not None
    assert "ASSISTANT_QUEUE_SHUTDOWN_TIMEOUT is 'soon'; give seconds" in process.stderr.read()


# --- the end --------------------------------------------------------------------------------------


@EVERY_START
def test_a_signal_lets_runs_finish_and_takes_no_more(bench: Bench, start: Any) -> None:
    bench.forks = False  # here the true commands start
    process = start(bench)
    with bench.provider.hold() as gate, bench.queue() as queue:
        receipt = queue.add_message_to_thread("t", "hello")
        gate.wait_reached(timeout=PATIENCE_S)
        process.terminate()
        wait_for_line(process.stderr, "stopping")
        late = queue.add_message_to_thread("u", "too late for this one")
        gate.release()
        assert process.wait(PATIENCE_S) == 0
        assert queue.wait_for_reply(receipt.message_id, 1) == "You said: hello"
        assert queue.get_message(late.message_id).status == "queued"


def test_what_does_not_end_within_the_time_is_handed_back_and_followed_by_another(
    bench: Bench,
) -> None:
    process = bench.start("--shutdown-timeout", "0.1")
    with bench.provider.hold() as gate, bench.queue() as queue:
        receipt = queue.add_message_to_thread("t", "hello")
        gate.wait_reached(timeout=PATIENCE_S)
        wait_until(lambda: queue.get_thread_status("t").run_id, "the run's id is stored")
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert queue.get_thread_status("t").state == "held"
        assert bench.executing() == 0
        gate.release()
        bench.start()
        assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: hello"
    assert len(bench.provider.runs) == 1


# --- several processes ----------------------------------------------------------------------------


def children_of(process: subprocess.Popen[str]) -> set[int]:
    return {child.pid for child in psutil.Process(process.pid).children()}


def test_processes_share_the_work_and_one_that_dies_is_replaced(bench: Bench) -> None:
    port = free_port()
    metrics = ["--metrics-port", str(port)]
    parent = bench.start("--processes", "2", "--concurrency", "1", *metrics)
    wait_until(lambda: len(bench.workers()) == 2, "both register")
    first = children_of(parent)
    assert {worker.pid for worker in bench.workers()} == first
    with bench.provider.hold() as gate, bench.queue() as queue:
        receipts = [queue.add_message_to_thread(f"t{number}", "hello") for number in range(2)]
        gate.wait_reached(count=2, timeout=PATIENCE_S)
        wait_until(
            lambda: all(queue.get_thread_status(f"t{number}").run_id for number in range(2)),
            "the runs' ids are stored",
        )
        os.kill(min(first), signal.SIGKILL)
        wait_until(
            lambda: len(children_of(parent)) == 2 and children_of(parent) != first,
            "another is started",
        )
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S).text
        assert f'_messages_total{{outcome="queued",queue="{bench.prefix}"}} 2.0\n' in text
        gate.release()
        for receipt in receipts:
            assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: hello"
    assert bench.provider.overlaps == ()
    parent.send_signal(signal.SIGINT)
    assert parent.wait(PATIENCE_S) == 0
    assert not any(psutil.pid_exists(pid) for pid in first)


def test_processes_die_with_their_parent(bench: Bench) -> None:
    parent = bench.start("--processes", "2")
    wait_until(lambda: len(children_of(parent)) == 2, "both run")
    own = children_of(parent)
    parent.kill()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in own), "the kernel ends them")


def test_a_process_whose_parent_died_before_it_could_ask_for_the_signal_ends() -> None:
    """Its parent is another process by then: the pid of this one stands for the dead one's."""
    late = "from assistant_queue.worker.parent_process import die_with_parent\n"
    late += "die_with_parent(1 << 22)\n"
    ended = subprocess.run([sys.executable, "-c", late], check=False)
    assert ended.returncode == -signal.SIGKILL


def test_what_is_wrong_with_the_app_is_said_once_for_all_processes(bench: Bench) -> None:
    process = bench.start("--processes", "3", ready=False, model=None, assistant_id=None)
    assert process.wait(PATIENCE_S) == 2
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read() == ""
    said = process.stderr.read()
    assert said.startswith("error: no backend is configured")
    assert said.count("\n") == 1


def test_a_fork_has_no_processes_and_no_prefixes(bench: Bench) -> None:
    process = bench.start("--fork", "--processes", "2", ready=False)
    assert process.wait(PATIENCE_S) == 2
    assert process.stderr is not None
    assert "leave out" in process.stderr.read()


# --- poison ---------------------------------------------------------------------------------------


def test_a_batch_that_kills_its_workers_is_set_aside_and_the_others_are_answered(
    bench: Bench,
) -> None:
    bench.provider.model = lambda turn: (
        ToolCalls([("order", {})]) if turn.round == 0 else Reply("ok: " + turn.user_texts[0])
    )
    bench.app = "tests.integration.poisonous_bot:queue"
    tool = {"type": "function", "name": "order", "parameters": {"type": "object", "properties": {}}}
    bench.options.update(lock_duration=1.0, request_timeout=1.0, tools=[tool])
    bench.start("--processes", "2")
    with bench.queue() as queue:
        poison = queue.add_message_to_thread("poison", "drink me")
        number = 0
        while not queue.list_failed():
            number += 1
            assert (
                queue.ask(f"t{number}", f"message {number}", timeout=PATIENCE_S)
                == f"ok: message {number}"
            )
        (failed,) = queue.list_failed()
        assert (failed.thread_id, failed.reason) == ("poison", "worker_deaths")
        assert queue.get_message(poison.message_id).status == "failed"
        assert "3 workers died" in failed.error.message
        # No other batch was blamed with it, and each message was handed to the model once, whatever
        # died meanwhile.
    asked = [run.user_texts for run in bench.provider.runs if run.user_texts]
    assert sorted(asked) == sorted(
        [("drink me",), *((f"message {one}",) for one in range(1, number + 1))]
    )
    assert bench.provider.overlaps == ()


# --- fairness -------------------------------------------------------------------------------------


def test_a_thread_with_ten_thousand_messages_does_not_starve_the_others(bench: Bench) -> None:
    """Its batches take turns with all others: those are answered before it is half done."""
    order: list[str] = []

    def model(turn: Any) -> Reply:
        order.append("long" if turn.user_texts[0].startswith("long") else "short")
        return Reply("ok")

    bench.provider.model = model
    with bench.queue() as queue:
        rows = queue.add_messages(
            {"thread_id": "long", "message": f"long {number}"} for number in range(10_000)
        )
        short = [queue.add_message_to_thread(f"t{number}", "short") for number in range(30)]
        bench.start("--concurrency", "2")
        for receipt in short:
            queue.wait_for_reply(receipt.message_id, PATIENCE_S)
        assert order.count("long") <= 2
        assert queue.wait_for_reply(rows[-1].message_id, 60) == "ok"
    assert order.count("long") == 10
