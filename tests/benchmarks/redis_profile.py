"""Measure a batch's CPU in Redis: per script by SLOWLOG, per part of a script by a replay."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from assistant_queue import AssistantMessageQueue
from tests.benchmarks.bench import PREFIX, TEXT, Bench, LeanProvider
from tests.benchmarks.measuring import quantile
from tests.benchmarks.monitoring import Monitor, Seen, script_texts
from tests.benchmarks.throughput import ABREAST, cpu_s

SAMPLE = 40
"""Batches whose commands are counted one by one."""
REPLAYS = 400


@dataclass(slots=True)
class ScriptCost:
    """One script in the batches of a run."""

    calls: int = 0
    us: float = 0.0


@dataclass(slots=True, kw_only=True)
class RedisCost:
    """Redis' share of a run.

    Attributes:
        cpu_ms: CPU of Redis per batch, everything included.
        worker_ms: CPU of the worker per batch.
        rate: Batches per second.
        scripts: By script's name, for all batches.
        inside: Commands inside scripts, by name, for all batches.
        command_us: Microseconds of one call of a command, by name.
    """

    batches: int
    cpu_ms: float
    worker_ms: float
    rate: float
    scripts: dict[str, ScriptCost] = field(default_factory=dict)
    plain: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    inside: Counter[str] = field(default_factory=Counter)
    command_us: dict[str, float] = field(default_factory=dict)

    @property
    def scripts_each(self) -> float:
        """Scripts per batch."""
        return sum(cost.calls for cost in self.scripts.values()) / self.batches

    @property
    def script_us_each(self) -> float:
        """Time inside scripts per batch."""
        return sum(cost.us for cost in self.scripts.values()) / self.batches


def redis_cpu_s(client: redis.Redis) -> float:
    """CPU seconds of the server."""
    info = client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def _stats(client: redis.Redis) -> dict[str, tuple[int, int]]:
    return {
        name.removeprefix("cmdstat_"): (stat["calls"], stat["usec"])
        for name, stat in client.info("commandstats").items()
    }


def fill(queue: AssistantMessageQueue, count: int, start: int = 0) -> None:
    """Add one message to each of `count` threads."""
    queue.add_messages(
        {"thread_id": f"customer-{number}", "message": TEXT}
        for number in range(start, start + count)
    )


def answered(bench: Bench, count: int) -> None:
    """Wait until so many messages are answered in all, asking seldom."""
    until = time.monotonic() + 300
    while int(bench.client.hget(f"{PREFIX}:counters", "completed") or 0) < count:
        if time.monotonic() > until:
            raise TimeoutError(f"{count} messages are not answered within 300 s")
        time.sleep(0.03)


def measure(
    bench: Bench, provider: LeanProvider, count: int, protocol: str = "responses"
) -> tuple[RedisCost, list[Seen], dict[str, tuple[str, str]]]:
    """Work off `count` threads that are due together; return the costs and a sample's commands."""
    client = bench.client
    options = {**provider.options(protocol), "message_delay": 0}
    with bench.queue(**options) as queue:
        client.script_flush()
        monitor = Monitor(bench.redis_port)
        with bench.worker("asyncio", bench.options(**options), concurrency=ABREAST) as process:
            fill(queue, SAMPLE)  # conversations, connections, scripts
            answered(bench, SAMPLE)
            fill(queue, SAMPLE)
            answered(bench, 2 * SAMPLE)
            seen = monitor.stop()
            scripts = script_texts(seen)
            cost = _work_off(bench, queue, process, count, scripts)
    for one in seen:
        if one.name not in ("EVALSHA", "SCRIPT", "HELLO", "CLIENT", "INFO") and not (
            one.name == "HGET" and one.words[1].endswith(b":counters")  # the benchmark's own look
        ):
            cost.plain[one.name] += count / (2 * SAMPLE)
    return cost, seen, scripts


def _work_off(
    bench: Bench,
    queue: AssistantMessageQueue,
    process: Any,
    count: int,
    scripts: dict[str, tuple[str, str]],
) -> RedisCost:
    client = bench.client
    fill(queue, count)  # their conversations
    answered(bench, 2 * SAMPLE + count)
    process.send_signal(signal.SIGSTOP)
    fill(queue, count)
    client.config_set("slowlog-max-len", 1_000_000)
    client.config_set("slowlog-log-slower-than", 0)
    stats = _stats(client)
    cpu = redis_cpu_s(client)
    worker_cpu = cpu_s(process)
    start = time.perf_counter()
    process.send_signal(signal.SIGCONT)
    answered(bench, 2 * SAMPLE + 2 * count)
    took = time.perf_counter() - start
    worker_cpu = cpu_s(process) - worker_cpu
    cpu = redis_cpu_s(client) - cpu
    after = _stats(client)
    client.config_set("slowlog-log-slower-than", -1)
    cost = RedisCost(
        batches=count,
        cpu_ms=cpu / count * 1000,
        worker_ms=worker_cpu / count * 1000,
        rate=count / took,
    )
    for name, (calls, us) in after.items():
        before = stats.get(name, (0, 0))
        if calls > before[0]:
            cost.inside[name] = calls - before[0]
            cost.command_us[name] = (us - before[1]) / (calls - before[0])
    times: dict[str, list[int]] = defaultdict(list)
    for words, us in _slow_log(client):
        if words[0].upper() == "EVALSHA":  # Redis 6 lists the commands inside scripts, too
            times[scripts.get(words[1], ("other", ""))[0]].append(us)
    for name, each in times.items():
        # The median: where other processes use the cores, a few calls take a hundred times as long.
        cost.scripts[name] = ScriptCost(len(each), quantile(each, 0.5) * len(each))
    return cost


def _slow_log(client: redis.Redis) -> Iterator[tuple[list[str], int]]:
    raw = client.execute_command("SLOWLOG GET", 1_000_000)
    client.slowlog_reset()
    for entry in raw:
        yield entry["command"].decode("utf-8", "replace").split(" "), int(entry["duration"])


@dataclass(slots=True)
class ScriptParts:
    """Microseconds of one call of a script, by part.

    Attributes:
        call: An empty script with the same keys and arguments.
        checks: The check of its keys.
        commands: The body's commands, by name: calls, and microseconds of all of them.
        whole: All of it.
    """

    call: float
    checks: float
    commands: dict[str, tuple[float, float]]
    whole: float

    @property
    def lua(self) -> float:
        """The rest: Lua's own work, and its way to the commands and back."""
        return self.whole - self.call - self.checks - sum(us for _, us in self.commands.values())


def parts(
    client: redis.Redis, cost: RedisCost, seen: Sequence[Seen], scripts: dict[str, tuple[str, str]]
) -> dict[str, ScriptParts]:
    """Return the parts of each script that a batch calls; replays change nothing."""
    by_name: dict[str, list[Seen]] = defaultdict(list)
    texts: dict[str, str] = {}
    for one in seen[len(seen) // 2 :]:
        if one.name == "EVALSHA":
            name, text = scripts.get(one.words[1].decode(), ("other", ""))
            by_name[name].append(one)
            texts[name] = text
    found = {}
    for name, script in cost.scripts.items():
        calls = by_name.get(name)
        text = texts.get(name)
        if not calls or not text:
            continue
        call = _replayed(client, "return {}", calls)
        checks = _replayed(client, _prologue(text), calls) - call
        inside = Counter(words[0].decode().lower() for one in calls for words in one.inside)
        checked = _commands_of(client, _prologue(text), calls)
        commands = {
            command: (
                (number - checked[command]) / len(calls),
                (number - checked[command]) / len(calls) * cost.command_us.get(command, 1.0),
            )
            for command, number in inside.items()
            if number > checked[command]
        }
        found[name] = ScriptParts(call, checks, commands, script.us / script.calls)
    return found


def _prologue(text: str) -> str:
    """Return the script up to the end of its checks."""
    at = re.search(r"^-- (Events?|Read)\b", text, re.MULTILINE)
    return text[: at.start() if at else 0] + "\nreturn {}"


def _replayed(client: redis.Redis, text: str, calls: Sequence[Seen]) -> float:
    sha = client.script_load(text)
    before = _stats(client)["evalsha"]
    for number in range(REPLAYS):
        words = calls[number % len(calls)].words
        client.execute_command("EVALSHA", sha, *words[2:])
    after = _stats(client)["evalsha"]
    return (after[1] - before[1]) / (after[0] - before[0])


def _commands_of(client: redis.Redis, text: str, calls: Sequence[Seen]) -> Counter[str]:
    sha = client.script_load(text)
    before = _stats(client)
    for one in calls:
        client.execute_command("EVALSHA", sha, *one.words[2:])
    after = _stats(client)
    return Counter(
        {
            name: number - before.get(name, (0, 0))[0]
            for name, (number, _) in after.items()
            if name not in ("evalsha", "script|load", "script", "info")
        }
    )


def report(cost: RedisCost, found: dict[str, ScriptParts]) -> Iterator[str]:
    """Yield the lines of two tables."""
    yield (
        f"Redis: {cost.cpu_ms:.2f} ms of CPU per batch; {cost.scripts_each:.2f} scripts of "
        f"{cost.script_us_each / cost.scripts_each:.0f} us (medians); "
        f"{sum(cost.plain.values()) / cost.batches:.2f} plain commands; "
        f"worker {cost.worker_ms:.2f} ms; {cost.rate:.0f} batches a second"
    )
    yield ""
    yield "| script | per batch | us each | call | checks | commands | Lua |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, script in sorted(cost.scripts.items(), key=lambda one: -one[1].us):
        each = script.us / script.calls
        part = found.get(name)
        split = (
            f"{part.call:.0f} | {part.checks:.0f} | "
            f"{sum(us for _, us in part.commands.values()):.0f} | {part.lua:.0f}"
            if part
            else " | | |"
        )
        yield f"| {name} | {script.calls / cost.batches:.2f} | {each:.0f} | {split} |"
    yield ""
    plain = ", ".join(
        f"{name} {n / cost.batches:.2f}" for name, n in sorted(cost.plain.items()) if n
    )
    yield f"Plain commands per batch: {plain}"
    inside = sum(cost.inside.values()) - cost.inside["evalsha"] - sum(cost.plain.values())
    yield f"Commands inside scripts per batch: {inside / cost.batches:.0f}"
    for name, part in found.items():
        commands = ", ".join(
            f"{command} {calls:.1f}" for command, (calls, _) in sorted(part.commands.items())
        )
        yield f"- {name}: {commands}"
