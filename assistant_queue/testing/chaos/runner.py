"""The runner: start everything, carry out the plan, drain, judge."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from assistant_queue import AssistantMessageQueue
from assistant_queue.backends.chat_completions.history import MAX_MESSAGES
from assistant_queue.errors import StoreError
from assistant_queue.testing.chaos.auditors import address_of, hear_audit
from assistant_queue.testing.chaos.bulk import Bulks
from assistant_queue.testing.chaos.chaos_bot import (
    APPROVALS_VARIABLE,
    AUDIT_VARIABLE,
    CLOCK_VARIABLE,
    DELIVERIES_VARIABLE,
    PLATFORMS_VARIABLE,
    VARIABLE,
)
from assistant_queue.testing.chaos.chaos_outcome import ChaosOutcome
from assistant_queue.testing.chaos.deliveries import Deliveries
from assistant_queue.testing.chaos.fault_plans import Model
from assistant_queue.testing.chaos.feed_oracle import FeedReader
from assistant_queue.testing.chaos.hearing import (
    failed_messages,
    hear_deliveries,
    hear_feed,
    hear_journals,
    hear_metrics,
    hear_said,
    hear_shown,
)
from assistant_queue.testing.chaos.message_hearing import hear_messages
from assistant_queue.testing.chaos.operators import Operators, ToolLog
from assistant_queue.testing.chaos.plan import (
    BY_PRODUCERS,
    TOOL_WORD,
    ChaosSettings,
    PlannedFault,
    make_plan,
)
from assistant_queue.testing.chaos.platforms import Platforms
from assistant_queue.testing.chaos.producers import Producers
from assistant_queue.testing.chaos.recovery import RecoveryWatch
from assistant_queue.testing.chaos.redis_process import DurableRedis, find_program
from assistant_queue.testing.chaos.sentinel import GuardedRedis
from assistant_queue.testing.chaos.shifting import set_shift, shifted
from assistant_queue.testing.chaos.show import TICK_S, Show
from assistant_queue.testing.chaos.workers import Workers
from assistant_queue.testing.provider import Personality, StandInProvider

PREFIX = "chaos"
_TOOL = {
    "type": "function",
    "name": "order_status",
    "parameters": {"type": "object", "properties": {"order": {"type": "string"}}},
}

Say = Callable[[str], None]


MAX_CHARS = 60
"""Characters of a batch, where windows are bounded. Chosen: three or four messages of the plan."""


def options_of(settings: ChaosSettings, url: str, provider: StandInProvider) -> dict[str, Any]:
    """Return the queue's options, for producers and workers alike."""
    chosen: dict[str, Any] = {"assistant_id": provider.assistant_id}
    if settings.protocol != "assistants":
        tools = [] if settings.approvals else [_TOOL]
        chosen = {"model": "stand-in-model", "tools": tools}
    if settings.protocol == "chat_completions":  # the judge reads all of it
        chosen.update(protocol="chat_completions", history=MAX_MESSAGES)
    if settings.windows:
        chosen.update(window="adaptive", max_wait=2.0, max_batch_chars=MAX_CHARS)
    return {
        "redis_url": url,
        "queue_prefix": PREFIX,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "message_delay": 0.3,
        "lock_duration": settings.lease,
        "request_timeout": settings.request_timeout,
        "stream_idle_timeout": 10.0,
        "run_timeout": settings.run_timeout,
        "backoff": {"type": "fixed", "delay": 0.3},
        # Every failure is one of the plan, and a kill during a request counts as one: none of them
        # may exhaust the attempts.
        "max_attempts": 1000,
        "concurrency": 50,
        "delivery_backoff": {"type": "fixed", "delay": 0.3},
        "durability": settings.durability,
        "journal": 10_000,  # the judge reads all of them
        "run_mode": "background" if settings.background else "stream",
        **chosen,
    }


def run(
    settings: ChaosSettings,
    *,
    plan: Sequence[PlannedFault] | None = None,
    redis_program: str | None = None,
    logs: Path | None = None,
    say: Say = print,
) -> ChaosOutcome:
    """Carry out the plan of these settings, or a given one.

    Raises:
        NoRedis: There is no redis-server, or it does not start.
        RuntimeError: A worker does not start.
    """
    events = make_plan(settings) if plan is None else list(plan)
    model = Model(TOOL_WORD)
    with contextlib.ExitStack() as stack:
        directory = logs or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="assistant-queue-chaos-"))
        )
        directory.mkdir(parents=True, exist_ok=True)
        # Without its own lock the provider prevents no overlap: a second concurrent run happens and
        # is counted.
        provider = stack.enter_context(
            StandInProvider(model, latency=0.05, personality=Personality(lock="none"))
        )
        program = redis_program or find_program()
        server = (
            GuardedRedis(program, directory)
            if settings.fail_over_every
            else DurableRedis(program, directory)
        )
        stack.callback(server.kill)
        server.start()
        options = options_of(settings, server.url, provider)
        deliveries = Deliveries(directory.absolute() / "deliveries.jsonl")
        environment = {
            VARIABLE: json.dumps(options),
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            **_of_settings(settings, directory),
        }
        if settings.protocol == "chat_completions":
            environment[DELIVERIES_VARIABLE] = str(deliveries.path)
        clock = directory.absolute() / "clock"
        if settings.clock_every:
            set_shift(clock, 0.0)
            stack.enter_context(shifted(clock))
            environment[CLOCK_VARIABLE] = str(clock)
        platforms = (
            _platforms(stack, settings.threads, environment) if settings.platform_every else None
        )
        queue = stack.enter_context(AssistantMessageQueue(**options))
        workers = Workers(
            settings.workers,
            app=settings.app,
            url=server.url,
            prefix=PREFIX,
            environment=environment,
            logs=directory,
            max_jobs=settings.max_jobs,
        )
        stack.callback(workers.end)
        workers.start()
        watch = RecoveryWatch(server.url, PREFIX, settings.lease)
        watch.start()
        stack.callback(watch.stop)
        producers = Producers(
            queue,
            [event for event in events if event.kind in BY_PRODUCERS],
            settings.producers,
            flushes=settings.windows,
        )
        bulks = Bulks(queue, options, producers, clock if settings.clock_every else None)
        reader = stack.enter_context(FeedReader(queue))
        show = Show(
            provider=provider,
            server=server,
            workers=workers,
            watch=watch,
            bulks=bulks,
            clock=clock,
            platforms=platforms,
        )
        say(f"{len(events)} events in {settings.seconds:g} s, seed {settings.seed}")
        operators = Operators.started(queue, _tool_log(directory)) if settings.approvals else None
        producers.start()
        show.play([event for event in events if event.kind not in BY_PRODUCERS], settings.seconds)
        began = time.monotonic()
        provider.clear_faults()
        workers.heal()
        if platforms is not None:
            platforms.heal()
        left = _drain(queue, producers, workers, settings.drain)
        drained_s = time.monotonic() - began
        moments = show.forgotten if settings.durability == "local" else ()
        heard = hear_messages(settings, queue, producers, provider, model, deliveries, moments)
        replies = (
            None
            if platforms is None
            else hear_deliveries(
                queue, producers.sent, provider, model, shown=platforms.shown(), moments=moments
            )
        )
        shown = (
            hear_shown(queue, producers.sent, platforms.shown())
            if settings.said_every and platforms is not None
            else None
        )
        return ChaosOutcome(
            settings=settings,
            verdict=heard.verdict,
            done=show.done,
            runs=Counter(run.status for run in provider.runs),
            recoveries=watch.recoveries(),
            repeated=producers.repeated,
            ended_by_themselves=workers.ended_by_themselves,
            left=left,
            drained_s=drained_s,
            deliveries=replies,
            said=hear_said(queue, producers.sent, provider) if settings.said_every else None,
            shown=shown,
            steering=heard.steering,
            takeovers=heard.takeovers,
            approvals=None
            if operators is None
            else operators.judged(stops=settings.takeover_every > 0),
            feed=None
            if moments or settings.fail_over_every
            else hear_feed(queue, producers.sent, reader.stop()),
            counted=None
            if moments
            else hear_metrics(
                queue,
                producers,
                heard.verdict,
                producers.repeated + bulks.added_again,
                # By a clock that was set back, every lease looks lapsed.
                0 if any(one.kind == "set_clock_back" for one in events) else watch.taken_over,
                [one for one in (replies, shown) if one is not None],
                heard.cancelled,
            ),
            journals=None if moments else hear_journals(queue, producers, provider),
            audit=None
            if moments or not settings.audit
            else hear_audit(queue, producers, environment[AUDIT_VARIABLE], failed_messages(queue)),
        )


def _of_settings(settings: ChaosSettings, directory: Path) -> dict[str, str]:
    """Return the variables of an audit, with its tables made, and of approvals."""
    found = {}
    if settings.audit:
        found[AUDIT_VARIABLE] = address_of(settings.audit, directory)
    if settings.approvals:
        found[APPROVALS_VARIABLE] = str(_tool_log(directory).path)
    return found


def _tool_log(directory: Path) -> ToolLog:
    return ToolLog(directory.absolute() / "tools.jsonl")


def _platforms(stack: contextlib.ExitStack, threads: int, environment: dict[str, str]) -> Platforms:
    """Start the chat platforms for the run, and give their addresses to the workers."""
    platforms = Platforms(threads)
    stack.callback(platforms.stop)
    platforms.start()
    environment[PLATFORMS_VARIABLE] = platforms.environment()
    return platforms


def _drain(
    queue: AssistantMessageQueue, producers: Producers, workers: Workers, within_s: float
) -> int:
    """Wait until nothing is open; return the counts that are left at the time limit."""
    until = time.monotonic() + within_s
    producers.join(within_s)
    while True:
        workers.look_after()
        left = -1
        with contextlib.suppress(StoreError):
            status = queue.get_queue_status()
            left = (
                status.waiting_count
                + status.delayed_count
                + status.active_count
                + status.parked_count
                + status.delivering_count
            )
        if left == 0 or time.monotonic() > until:
            return left
        time.sleep(TICK_S)
