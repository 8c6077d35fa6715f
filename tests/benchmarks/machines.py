"""`python -m tests.benchmarks.machines`: one machine's worth of workers against two, each in its own network namespace.

Needs Linux, root and iproute2 (`ip`, and `tc` for --delay). Redis, the provider and the producer
are in the machine's own namespace; workers reach them over a bridge. The namespaces and the bridge
are removed at the end, whatever happens. Nothing is asserted on a clock.

1. batches a second and runs held, with a model that takes a while: one machine, then two
2. one of two machines is cut off in the middle: when its threads have gone on, and whether anything
   is doubled when it is back
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from tests.benchmarks import VARIABLE
from tests.benchmarks.bench import PREFIX, ROOT, Bench, wait_until
from tests.benchmarks.proxy import Relay
from tests.benchmarks.sizes import QUICK
from tests.benchmarks.table import Row, render
from tests.conftest import SERVERS, RedisServer

BRIDGE = "aqbench"
SUBNET = "10.231.77"
HOST = f"{SUBNET}.1"
RUN_S = 1.0
LEASE_S = 5.0
CUT_RUN_S = 3.0


def ip(*words: str) -> None:
    """One command of iproute2."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Machine:
    """A network namespace with an address on the bridge, and the workers in it."""

    def __init__(self, number: int, log: Path, delay_ms: float) -> None:
        self.name = f"{BRIDGE}{number}"
        self.link = f"{BRIDGE}-v{number}"
        self._log = log
        self._workers: list[subprocess.Popen[bytes]] = []
        ip("netns", "add", self.name)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("link", "set", self.link, "master", BRIDGE, "up")
        ip("-n", self.name, "addr", "add", f"{SUBNET}.{number + 1}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self.name, "link", "set", device, "up")
        if delay_ms:
            command = [
                "tc",
                "qdisc",
                "add",
                "dev",
                self.link,
                "root",
                "netem",
                "delay",
                f"{delay_ms}ms",
            ]
            subprocess.run(command, check=True, capture_output=True)

    def start(self, options: dict[str, Any], *, processes: int, concurrency: int) -> None:
        """Start workers."""
        command = [
            sys.executable,
            "-m",
            "assistant_queue.cli",
            "worker",
            "--app",
            "tests.benchmarks.app:queue",
            "--log-level",
            "warning",
        ]
        command += [
            "--processes",
            str(processes),
            "--concurrency",
            str(concurrency),
            "--shutdown-timeout",
            "0",
        ]
        environment = {**os.environ, VARIABLE: json.dumps(options), "PYTHONPATH": str(ROOT)}
        with self._log.open("ab") as log:
            words = ["ip", "netns", "exec", self.name, *command]
            self._workers.append(
                subprocess.Popen(
                    words, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
                )
            )

    def cut(self, *, off: bool) -> None:
        """Pull the cable, or put it in again: neither end is notified."""
        ip("link", "set", self.link, "down" if off else "up")

    def stop(self) -> None:
        """End its workers."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            with suppress(subprocess.TimeoutExpired):
                worker.wait(10)
            worker.kill()
            worker.wait()
        self._workers.clear()

    def remove(self) -> None:
        """Leave nothing of it."""
        self.stop()
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


@contextmanager
def network(count: int, log: Path, delay_ms: float) -> Iterator[list[Machine]]:
    """A bridge and so many machines on it."""
    machines: list[Machine] = []
    ip("link", "add", BRIDGE, "type", "bridge")
    try:
        ip("addr", "add", f"{HOST}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for number in range(1, count + 1):
            machines.append(Machine(number, log, delay_ms))
        yield machines
    finally:
        for machine in machines:
            machine.remove()
        for number in range(1, count + 1):  # one that was half made
            subprocess.run(
                ["ip", "netns", "del", f"{BRIDGE}{number}"], check=False, capture_output=True
            )
        subprocess.run(["ip", "link", "del", BRIDGE], check=False, capture_output=True)


class Scene:
    """Redis and the queue's options, as the machines see them."""

    def __init__(self, server: RedisServer, held: int, processes: int) -> None:
        self.client = redis.Redis(port=server.port)
        self.url = f"redis://{HOST}:{server.port}/0"
        self.held = held
        self.processes = processes

    def completed(self) -> int:
        """Messages answered."""
        return int(self.client.hget(f"{PREFIX}:counters", "completed") or 0)

    def start(self, machines: Sequence[Machine], options: dict[str, Any]) -> None:
        """Start workers on each, and wait until all are there."""
        for machine in machines:
            machine.start(
                {**options, "redis_url": self.url},
                processes=self.processes,
                concurrency=self.held // self.processes,
            )
        count = len(machines) * self.processes
        wait_until(
            lambda: self.client.scard(f"rq:workers:{PREFIX}") == count,
            f"{count} workers register",
            60,
        )

    def handed_over(self, messages: int) -> int:
        """Wake-ups that were put into RQ's queue: what was appended to lists, without the messages themselves."""
        return int(self.client.info("commandstats")["cmdstat_rpush"]["calls"]) - messages


def spread_rows(scene: Scene, machines: Sequence[Machine], rounds: int) -> Iterator[Row]:
    """The same work for one machine and for both."""
    rates = []
    for part in (machines[:1], machines):
        scene.client.flushall()
        with Bench(QUICK).lean_provider(RUN_S, HOST) as provider:
            options = {**provider.options(), "queue_prefix": PREFIX, "message_delay": 0.5}
            scene.start(part, options)
            count = scene.held * len(part) * rounds
            scene.client.config_resetstat()
            timers = set()
            _ = time.monotonic()
            with AssistantMessageQueue(redis=scene.client, **options) as queue:
                queue.add_messages(
                    {"thread_id": f"conv_{number:024d}", "message": "hello"}
                    for number in range(count)
                )

            def done(count: int = count, timers: set[Any] = timers) -> bool:
                timers.add(scene.client.get(f"{PREFIX}:timer"))
                return scene.completed() >= count

            wait_until(done, f"{count} batches", 60 + 10 * rounds * RUN_S)
            seen = provider.stats()
            for machine in part:
                machine.stop()
        took = max(seen["ended"].values()) - min(seen["started"].values())
        rates.append(count / took)
        floor = scene.held * len(part) / RUN_S
        yield Row(
            group="machines", what=f"{len(part)} x {scene.processes} processes, {count:,} runs of {RUN_S:g} s: batches a second",
            here=f"{rates[-1]:.1f} /s", beside=f"with no time between runs {floor:.0f} /s", ratio=rates[-1] / floor,
        )  # fmt: skip
        yield Row(
            group="machines",
            what="  runs held at once",
            here=str(seen["most"]),
            beside=f"room for {scene.held * len(part)}",
        )
        exactly = seen["runs"] == len(seen["started"]) == count and seen["overlaps"] == 0
        yield Row(
            group="machines", what="  runs that the provider saw; of them two at once in a thread",
            here=f"{seen['runs']:,}; {seen['overlaps']}", beside=f"threads {count:,}", target="one each; 0", met=exactly,
        )  # fmt: skip
        handed = scene.handed_over(count)
        keepers = len(timers - {None})
        yield Row(
            group="machines", what="  wake-ups handed over; schedulers that were the leader", here=f"{handed:,}; {keepers}",
            beside=f"threads {count:,}", target="; 1", met=keepers == 1,
        )  # fmt: skip
    yield Row(
        group="machines",
        what="two machines by one",
        here=f"{rates[1] / rates[0]:.2f} x",
        ratio=rates[1] / rates[0],
    )


def cut_rows(scene: Scene, machines: Sequence[Machine], stack: ExitStack) -> Iterator[Row]:
    """A machine is cut off while both are full; and comes back."""
    scene.client.flushall()
    provider = stack.enter_context(StandInProvider(latency=CUT_RUN_S))
    relay = Relay(int(provider.base_url.split(":")[2].split("/")[0]), host=HOST)
    stack.callback(relay.close)
    options = {
        "queue_prefix": PREFIX, "openai_api_key": provider.api_key, "openai_base_url": f"http://{HOST}:{relay.port}/v1",
        "model": "stand-in-model", "message_delay": 0, "lock_duration": LEASE_S, "request_timeout": 5,
    }  # fmt: skip
    scene.start(machines, options)
    threads = [f"thread-{number}" for number in range(scene.held)]
    with AssistantMessageQueue(redis=scene.client, **options) as queue:
        first = [
            queue.add_message_to_thread(thread, f"first of {thread}").message_id
            for thread in threads
        ]
        wait_until(lambda: len(provider.runs) >= len(threads), "all runs have started", 60)
        machines[1].cut(off=True)
        cut = time.monotonic()
        second = [
            queue.add_message_to_thread(thread, f"second of {thread}").message_id
            for thread in threads
        ]
        waits = _settled(queue, first, cut)
        wait_until(
            lambda: scene.completed() >= 2 * len(threads),
            "the second messages are answered, too",
            120,
        )
        machines[1].cut(off=False)
        third = [
            queue.add_message_to_thread(thread, f"third of {thread}").message_id
            for thread in threads
        ]
        back = time.monotonic()
        _settled(queue, [*second, *third], back)
        quiet = 2 * LEASE_S
        time.sleep(max(0.0, back + quiet - time.monotonic()))  # time to do harm in
        failed = len(queue.list_failed())
    late = [wait for wait in waits if wait > CUT_RUN_S + 1]
    said = Counter(text for run in provider.runs for text in run.user_texts)
    yield Row(
        group="cut off", what=f"threads of the machine that was cut off, over runs of {CUT_RUN_S:g} s", here=str(len(late)),
        beside=f"of {len(threads)}",
    )  # fmt: skip
    yield Row(
        group="cut off", what="  from the cut to the reply, over the other machine: the last", here=f"{max(waits):.1f} s",
        beside=f"lease {LEASE_S:g} s", target=f"<= {LEASE_S + 2:g} s", met=max(waits) <= LEASE_S + 2,
    )  # fmt: skip
    once = len(said) == 3 * len(threads) and set(said.values()) == {1}
    yield Row(
        group="cut off", what=f"  messages that were in exactly one run, {quiet:g} s after it came back; runs; two at once; failed",
        here=f"{sum(count == 1 for count in said.values())}; {len(provider.runs)}; {len(provider.overlaps)}; {failed}",
        beside=f"messages {3 * len(threads)}", target="all; 0; 0", met=once and not provider.overlaps and not failed,
    )  # fmt: skip


def _settled(queue: AssistantMessageQueue, message_ids: Sequence[str], since: float) -> list[float]:
    """Return the time of each answer, in seconds since the start."""
    left = set(message_ids)
    waits = []

    def look() -> bool:
        for message_id in list(left):
            status = queue.get_message(message_id)
            if status is not None and status.status == "completed":
                left.discard(message_id)
                waits.append(time.monotonic() - since)
        return not left

    wait_until(look, "all are answered", 120)
    return waits


def measure(*, held: int, processes: int, rounds: int, delay_ms: float) -> list[Row]:
    """Every row."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = directory / "workers.log"
        log.touch()
        machines = stack.enter_context(network(2, log, delay_ms))
        server = RedisServer(
            SERVERS.get("path") or SERVERS["wheel"],
            directory,
            "--bind",
            HOST,
            "127.0.0.1",
            "--protected-mode",
            "no",
        )
        server.start()
        stack.callback(server.stop)
        scene = Scene(server, held, processes)
        try:
            return [*spread_rows(scene, machines, rounds), *cut_rows(scene, machines, stack)]
        except TimeoutError:
            sys.stderr.write(log.read_text(errors="replace")[-3000:])
            raise


def what_is_missing(is_there: Callable[[str], Any] = shutil.which) -> str:
    """Return the missing requirements; '' if there are none."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "root: it makes network namespaces"
    return "" if is_there("ip") and is_there("tc") else "iproute2: `ip` and `tc`"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.machines", description=__doc__
    )
    parser.add_argument(
        "--held", type=int, default=60, help="runs that a machine holds at once [60]"
    )
    parser.add_argument(
        "--processes", type=int, default=2, help="worker processes of a machine [2]"
    )
    parser.add_argument("--rounds", type=int, default=10, help="how often the room is filled [10]")
    parser.add_argument(
        "--delay",
        type=float,
        default=0.0,
        metavar="MS",
        help="milliseconds that the way to each machine takes longer [0]",
    )
    told = parser.parse_args(arguments)
    missing = what_is_missing()
    if missing:
        parser.error(f"this needs {missing}")
    try:
        rows = measure(
            held=told.held, processes=told.processes, rounds=told.rounds, delay_ms=told.delay
        )
    except subprocess.CalledProcessError as error:
        parser.error(
            f"{' '.join(error.cmd)}: {(error.stderr or b'').decode().strip()} (--delay needs the kernel's netem)"
        )
    sys.stdout.write(render(rows) + "\n")


if __name__ == "__main__":
    main()
