"""The measurements: each does one side's work once, and returns its figures by name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from tests.benchmarks.bench import wait_until
from tests.benchmarks.counting import BATCH, SET_UP
from tests.benchmarks.holding import allow_files, peak_bytes
from tests.benchmarks.measuring import quantile
from tests.benchmarks.peer.sides import Lane, Rig, cpu_of, stopped
from tests.benchmarks.proxy import Relay

Figures = dict[str, float]
CONNECTING = SET_UP | {b"INFO"}
LATER_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Numbers of one run.

    Attributes:
        rounds: Turns of each side.
        batches: Due batches in the throughput row of the peer, a fourth of them for this package;
            with two workers 1.5 times and half as many.
        here_concurrency: Runs at once in each of our workers.
        peer_concurrency: The same in those of the peer, which polls a run first after a second.
        held: Runs held at once; four times as many in the long rows.
        held_s: How long; six times as long in the long rows.
        adds: Messages of the rows of adds in flight.
        paced_s: Seconds of the latency rows.
        light: Batches a second in the first of them.
        load: Batches a second in the second.
        replies: Replies that are waited for.
        bursts: Batches of five, for counting their commands.
        memory: Messages that wait.
        during: Messages that fall due during one run.
        during_s: The length of that run.
        stall_s: Seconds without an answer after which the remaining messages count as lost.
    """

    rounds: int
    batches: int
    here_concurrency: int
    peer_concurrency: int
    held: int
    held_s: float
    adds: int
    paced_s: float
    light: float
    load: float
    replies: int
    bursts: int
    memory: int
    during: int
    during_s: float
    stall_s: float


FULL = Amounts(
    rounds=3, batches=8000, here_concurrency=200, peer_concurrency=4000, held=1000, held_s=10.0,
    adds=12_000, paced_s=8.0, light=25.0, load=105.0, replies=20, bursts=100, memory=10_000,
    during=1000, during_s=2.5, stall_s=30.0,
)  # fmt: skip
QUICK = Amounts(
    rounds=1, batches=80, here_concurrency=20, peer_concurrency=100, held=20, held_s=1.5,
    adds=400, paced_s=0.5, light=20.0, load=40.0, replies=3, bursts=5, memory=200,
    during=10, during_s=1.2, stall_s=8.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measures:
    """One method for each section of the table."""

    rig: Rig
    amounts: Amounts

    def throughput(self, lane: Lane) -> Figures:
        """All batches due, one worker process."""
        count = self.amounts.batches
        return self._flat_out(lane, 1, count if lane.is_peer else count // 4)

    def throughput_of_two(self, lane: Lane) -> Figures:
        """The same with two worker processes."""
        count = self.amounts.batches
        return self._flat_out(lane, 2, count * 3 // 2 if lane.is_peer else count // 2)

    def _flat_out(self, lane: Lane, processes: int, count: int) -> Figures:
        rig = self.rig
        amounts = self.amounts
        abreast = amounts.peer_concurrency if lane.is_peer else amounts.here_concurrency
        allow_files(2 * abreast + 500)
        rig.clean()
        with ExitStack() as stack:
            workers = [stack.enter_context(rig.worker(lane, abreast)) for _ in range(processes)]
            before = rig.warm(lane, workers, min(200, count))
            with stopped(workers):
                rig.fill(lane, count)
                time.sleep(0.1)  # the last one's window
                rig.bench.client.config_resetstat()
                cpu = cpu_of(workers)
                redis_cpu = rig.redis_cpu_s()
                start = time.time()
            end, answered = rig.wait(lane, workers, before + count, stall_s=amounts.stall_s)
            done = max(1, answered - before)
            scripts = rig.bench.client.info("commandstats").get("cmdstat_evalsha", {})
            return {
                "rate": done / (end - start),
                "worker_ms": (cpu_of(workers) - cpu) / done * 1000,
                "redis_ms": (rig.redis_cpu_s() - redis_cpu) / done * 1000,
                "scripts": scripts.get("calls", 0) / done,
                "script_us": float(scripts.get("usec_per_call", 0.0)),
                "peak_mb": max(peak_bytes(worker.process) for worker in workers) / 1e6,
            }

    def holding(self, lane: Lane) -> Figures:
        """A thousand runs at once."""
        return self._hold(lane, self.amounts.held, self.amounts.held_s)

    def holding_long(self, lane: Lane) -> Figures:
        """Four thousand."""
        return self._hold(lane, 4 * self.amounts.held, 6 * self.amounts.held_s)

    def _hold(self, lane: Lane, count: int, hold_s: float) -> Figures:
        rig = self.rig
        allow_files(2 * count + 500)
        rig.clean()
        with rig.worker(lane, count) as worker:
            before = rig.warm(lane, [worker], min(60, count))
            rig.provider.reset(hold_s)
            with stopped([worker]):
                rig.fill(lane, count)
                time.sleep(0.1)  # the last one's window
                cpu = cpu_of([worker])
                start = time.time()
            _, answered = rig.wait(
                lane, [worker], before + count, stall_s=hold_s + self.amounts.stall_s
            )
            seen = rig.provider.stats()
            return {
                "worker_ms": (cpu_of([worker]) - cpu) / count * 1000,
                "last_start_s": max(seen["started"].values()) - start,
                "peak_mb": peak_bytes(worker.process) / 1e6,
                "most": seen["most"],
                "lost": before + count - answered,
            }

    def adding(self, lane: Lane) -> Figures:
        """Adds in flight together, and one after another."""
        return {
            "in_flight": self._adds(lane, self.amounts.adds, in_flight=50),
            "one_by_one": self._adds(lane, self.amounts.adds // 4, in_flight=1),
        }

    def adding_in_bulk(self, lane: Lane) -> Figures:
        """`add_messages`, which the peer does not have."""
        count = self.amounts.adds * 5 // 3
        return {
            "one": self._adds(lane, count, in_flight=0),
            "five": self._adds(lane, count, in_flight=0, per_thread=5),
        }

    def _adds(self, lane: Lane, count: int, *, in_flight: int, per_thread: int = 1) -> float:
        self.rig.clean()
        taken = self.rig.produce(
            lane, "add", count=count, per_thread=per_thread, in_flight=in_flight, warm=50, delay_s=LATER_S
        )  # fmt: skip
        return count / float(taken["elapsed_s"])

    def waiting(self, lane: Lane) -> Figures:
        """From the window's end to the request, with little to do."""
        return self._paced(lane, self.amounts.light, self.amounts.here_concurrency)

    def waiting_again(self, lane: Lane) -> Figures:
        """The same for the second batch of each conversation."""
        return self._paced(lane, self.amounts.light, self.amounts.here_concurrency, again=True)

    def waiting_loaded(self, lane: Lane) -> Figures:
        """The same with as much to do as a fourth of the peer's rate."""
        amounts = self.amounts
        abreast = amounts.peer_concurrency if lane.is_peer else amounts.here_concurrency
        return self._paced(lane, amounts.load, abreast)

    def _paced(self, lane: Lane, rate: float, abreast: int, *, again: bool = False) -> Figures:
        rig = self.rig
        rig.clean(0.1)
        count = round(rate * self.amounts.paced_s)
        same = {"threads": f"{lane.threads}again"} if again else {}
        with rig.worker(lane, abreast) as worker:
            before = rig.warm(lane, [worker], min(60, self.amounts.batches))
            if again:
                rig.produce(lane, "paced", count=count, rate=2 * rate, delay_s=0.1, **same)
                before += count
                rig.wait(lane, [worker], before)
            rig.provider.reset(0.1)
            made = rig.produce(lane, "paced", count=count, rate=rate, delay_s=1.0, **same)
            rig.wait(lane, [worker], before + count)
            started: Mapping[str, float] = rig.provider.stats()["started"]
        waits = [
            (started[thread] - called - 1.0) * 1000
            for thread, called in made["called"].items()
            if thread in started
        ]
        return {name: quantile(waits, part) for name, part in _PERCENTILES.items()}

    def reply(self, lane: Lane) -> Figures:
        """From the end of the provider's work to the reply in the caller's hands."""
        rig = self.rig
        count = self.amounts.replies
        rig.clean(self.amounts.held_s)
        with rig.worker(lane, 50, reads=True) as worker:
            if lane.is_peer:
                rig.produce(lane, "paced", count=count, rate=10.0, delay_s=0.1)
                wait_until(lambda: len(worker.ask("known")) == count, "all replies are read", 90)
                known: dict[str, float] = worker.ask("known")
            else:
                known = rig.produce(lane, "replies", count=count, rate=10.0, delay_s=0.1)["known"]
            ended: Mapping[str, float] = rig.provider.stats()["ended"]
        late = [(known[thread] - ended[thread]) * 1000 for thread in known]
        return {"p50": quantile(late, 0.5)}

    def counting(self, lane: Lane) -> Figures:
        """Commands that clients send, and HTTP calls, by batch of five."""
        rig = self.rig
        count = self.amounts.bursts
        rig.clean()
        relay = Relay(rig.bench.redis_port, count=True)
        with rig.worker(lane, 50, redis_url=relay.url) as worker:
            before = rig.warm(lane, [worker], 20)
            rig.provider.reset(0.0)
            relay.take()
            rig.produce(
                lane, "bursts", count=count, per_thread=BATCH, interval_s=0.05, redis_url=relay.url
            )
            rig.wait(lane, [worker], before + count * BATCH, stall_s=self.amounts.stall_s)
            sent = [words for _, words in relay.take() if words[0].upper() not in CONNECTING]
            seen = rig.provider.stats()
        relay.close()
        return {
            "commands": len(sent) / count,
            "calls": seen["requests"] / count,
            "runs": seen["runs"] / count,
        }

    def memory(self, lane: Lane) -> Figures:
        """Bytes of Redis for a message that waits, its text included."""
        count = self.amounts.memory
        return {
            "one": self._waiting_bytes(lane, count, 1),
            "five": self._waiting_bytes(lane, count, 5),
            "all": self._waiting_bytes(lane, count, count),
        }

    def _waiting_bytes(self, lane: Lane, count: int, per_thread: int) -> float:
        rig = self.rig
        rig.clean()

        def add(messages: int, in_a_thread: int) -> int:
            rig.produce(
                lane, "add", count=messages, per_thread=in_a_thread, in_flight=50 if lane.is_peer else 0,
                delay_s=LATER_S, distinct_times=True,
            )  # fmt: skip
            return int(rig.bench.client.info("memory")["used_memory"])

        empty = add(20, 1)  # scripts, keys that are there once
        return (add(count, per_thread) - empty) / count

    def falling_due(self, lane: Lane) -> Figures:
        """Many messages for a thread fall due while its run lasts."""
        rig = self.rig
        amounts = self.amounts
        rig.clean()
        with rig.worker(lane, 100) as worker:
            before = rig.warm(lane, [worker], 10)
            rig.provider.reset(amounts.during_s)
            cpu = cpu_of([worker])
            rig.produce(
                lane,
                "during",
                count=amounts.during,
                per_thread=1,
                delay_s=0.05,
                distinct_times=True,
            )
            _, answered = rig.wait(
                lane,
                [worker],
                before + amounts.during + 1,
                stall_s=amounts.during_s + amounts.stall_s,
            )
            return {
                "worker_s": cpu_of([worker]) - cpu,
                "lost": before + amounts.during + 1 - answered,
            }

    def starting(self, lane: Lane) -> Figures:
        """From the start of a worker process to the request of a run that was due."""
        rig = self.rig
        rig.clean()
        rig.produce(lane, "add", count=1, per_thread=1, in_flight=1, delay_s=0.0)
        start = time.time()
        with rig.worker(lane, 50, ready=False):
            wait_until(lambda: rig.provider.count()["runs"], "the first run", 60)
            (began,) = rig.provider.stats()["started"].values()
            return {"first_run_s": began - start}


_PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
