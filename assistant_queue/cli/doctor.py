"""`assistant-queue doctor`: find causes of unanswered messages, with advice for each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import click

from assistant_queue.backends.factory import make_backend
from assistant_queue.cli.exit_errors import FAILED
from assistant_queue.cli.output import echo_json, echo_lines, json_option
from assistant_queue.cli.provider_check import Examinable, examine
from assistant_queue.cli.shared_options import Where, backend_name, redis_name, where_options
from assistant_queue.client.queue_core import QueueCore, open_core
from assistant_queue.config import Config
from assistant_queue.errors import (
    AssistantQueueError,
    ConfigurationMismatch,
    NotPermitted,
    StoreError,
    StoreUnavailable,
)
from assistant_queue.store.calls import Namespace
from assistant_queue.store.layout import read_nestings
from assistant_queue.store.ops import control
from assistant_queue.store.ops.health import (
    read_abandoned,
    read_health,
    read_longest_life,
    read_workers,
)
from assistant_queue.store.ops.server_info import (
    Finding,
    judge,
    judge_nesting,
    read_server,
    refuse_cluster,
)
from assistant_queue.store.ops.sweeping import TERM_MS
from assistant_queue.store.ops.thread_lists import STUCK_MS
from assistant_queue.store.transport.stores import SyncStore

QUICK_MS = 100_000
"""Milliseconds for which RQ believes in a worker that looks for a missing scheduler soon. Chosen:
above the 95 s of `--worker-ttl 35`; by default they are 480 s at first."""
_LOOKS = 3
"""Reads of the workers within the term of a scheduler's leader. Chosen: a busy one is late by
less."""
_ASK_A_VIEWER = (
    "run it as the user `viewer` of docs/redis-users.acl, or as one that may do everything"
)


@click.command(short_help="Find causes of unanswered messages.")
@click.option("--no-provider", is_flag=True, help="Send nothing to the provider.")
@click.option(
    "--no-run",
    is_flag=True,
    help="Do not ask the model a question, which costs a few tokens.",
)
@json_option
@where_options
def doctor(*, where: Where, no_provider: bool, no_run: bool, as_json: bool) -> None:
    """Check Redis, the workers, the threads and the provider; print findings with advice.

    Checks Redis' version, persistence, eviction policy and replicas; live workers; overdue threads;
    failed batches; a pause; the producers' configuration against this one; whether the provider
    answers, takes the key, creates and deletes a conversation, knows the model, and answers a
    question of six words; the remedies that its server needs.

    \b
    assistant-queue doctor --app myapp:queue
    assistant-queue doctor --json

    Exit codes: 0 no `bad` finding, 1 a `bad` finding, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    config = where.config()
    core = open_core(config)
    try:
        findings = list(_examine(core, ask_provider=not no_provider, runs=not no_run))
    finally:
        core.store.close()
    for finding in findings:
        if as_json:
            echo_json(finding)
        else:
            echo_lines([f"{finding.level:>4}  {finding.what}"])
            if finding.advice:
                echo_lines([f"      -> {finding.advice}"])
    if any(finding.level == "bad" for finding in findings):
        raise SystemExit(FAILED)


def _examine(core: QueueCore[SyncStore], *, ask_provider: bool, runs: bool) -> Iterator[Finding]:
    config = core.config
    namespace = core.namespace
    store = core.store
    server = store.run(read_server())
    refuse_cluster(server)
    yield from judge(server, redis_name(config), durability=config.durability)
    yield from _as_far_as_permitted("the workers", _workers(namespace, store))
    yield from _as_far_as_permitted("the threads", _threads(namespace, store))
    yield from _as_far_as_permitted("the keys of other queues", _nestings(namespace, store))
    yield from _as_far_as_permitted(
        "the producers' configuration", _fingerprint(config, namespace, store)
    )
    if ask_provider:
        yield from _provider(config, runs=runs)


def _as_far_as_permitted(what: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings; a command that Redis refuses ends its own check, not those after it."""
    try:
        yield from findings
    except StoreUnavailable:
        raise
    except NotPermitted as error:
        yield Finding(
            level="note",
            what=f"{what} cannot be read by this user of Redis: {error}",
            advice=_ASK_A_VIEWER,
        )
    except StoreError as error:
        yield Finding(
            level="bad",
            what=f"{what} cannot be read: {error}",
            advice="look at the key in the message",
        )


def _workers(namespace: Namespace, store: SyncStore) -> Iterator[Finding]:
    found = store.run(read_workers(namespace))
    for _ in range(_LOOKS):
        if found.has_leader or not found.registered:
            break
        time.sleep(TERM_MS / 1000 / _LOOKS)  # a busy leader extends its term a moment later
        found = store.run(read_workers(namespace))
    if found.has_leader and found.registered:
        yield Finding(
            level="ok",
            what=f"{found.registered} worker process(es) registered with RQ, "
            "and a timer that wakes them",
        )
    elif found.registered:
        yield _without_sweeper(namespace, store, found.registered)
    elif found.has_leader:
        yield Finding(
            level="bad",
            what="a timer wakes threads, and no worker is alive to answer",
            advice="start assistant-queue worker --app ...",
        )
    else:
        yield Finding(
            level="bad", what="no worker is alive", advice="start assistant-queue worker --app ..."
        )
    yield from _abandoned(namespace, store)


def _without_sweeper(namespace: Namespace, store: SyncStore, workers: int) -> Finding:
    try:
        is_quick = store.run(read_longest_life(namespace)) <= QUICK_MS
    except NotPermitted:
        is_quick = False
    slow = (
        ""
        if is_quick
        else "; if all of them die with it, a thread without callers waits up to 14 minutes"
    )
    options = "" if is_quick else " or with --worker-ttl 35 --maintenance-interval 15,"
    return Finding(
        level="warn",
        what=f"{workers} stock worker(s) and no sweeper: recovery depends on RQ's scheduler{slow}",
        advice=f"start them with --worker-class assistant_queue.Worker,{options} "
        "or run assistant-queue sweep beside them",
    )


def _abandoned(namespace: Namespace, store: SyncStore) -> Iterator[Finding]:
    try:
        count = store.run(read_abandoned(namespace))
    except NotPermitted:
        return  # reported by the other checks
    if count:
        yield Finding(
            level="warn",
            what=f"{count} call(s) of your functions exceeded their time limit and still run",
            advice="the workers' logs have their names: set time-outs on the clients they use",
        )


def _threads(namespace: Namespace, store: SyncStore) -> Iterator[Finding]:
    found = store.run(read_health(namespace, STUCK_MS))
    for key in found.foreign:
        yield Finding(
            level="bad",
            what=f"{key} was not written by this queue",
            advice="a worker moves it aside; or delete it",
        )
    if found.refused:
        commands = ", ".join(dict.fromkeys(found.refused))
        yield Finding(
            level="note",
            what=f"the checks are incomplete: this user of Redis may not {commands}",
            advice=_ASK_A_VIEWER,
        )
    if found.moved:
        yield Finding(
            level="warn",
            what=f"{found.moved} key(s) were not written by this queue and were moved aside",
            advice=f"ZRANGE {namespace.keys.quarantine} 0 -1 lists them: look at them, "
            "then delete them",
        )
    if found.paused:
        yield Finding(
            level="warn",
            what="the queue is paused: nothing is claimed",
            advice="assistant-queue resume",
        )
    if found.overdue:
        yield Finding(
            level="bad",
            what=f"{found.overdue} thread(s) overdue by more than 5 s",
            advice="start workers; then assistant-queue sweep --once. assistant-queue threads --state "
            "stuck lists them, and assistant-queue explain THREAD says why each waits",
        )
    elif found.overdue is not None:
        answered = (
            "" if found.completed is None else f"; {found.completed} messages answered so far"
        )
        yield Finding(level="ok", what=f"no thread is overdue{answered}")
    if found.failed:
        yield Finding(
            level="warn",
            what=f"{found.failed} failed batches or replies wait for a decision",
            advice="assistant-queue failed",
        )
    if found.overdue_deliveries:
        yield Finding(
            level="bad",
            what=f"{found.overdue_deliveries} thread(s) with a reply overdue by more than 5 s",
            advice="start workers with on_reply; raise delivery_concurrency",
        )
    if found.undelivered:
        yield Finding(
            level="warn",
            what=f"{found.undelivered} replies were not delivered",
            advice="assistant-queue failed; then assistant-queue failed retry --all "
            "--reason undelivered",
        )


def _nestings(namespace: Namespace, store: SyncStore) -> Iterator[Finding]:
    yield from map(judge_nesting, store.run(read_nestings(namespace)))


def _fingerprint(config: Config, namespace: Namespace, store: SyncStore) -> Iterator[Finding]:
    try:
        store.run(control.check_in(namespace, config.fingerprint))
    except ConfigurationMismatch as error:
        yield Finding(
            level="bad", what=str(error), advice="start the workers with the app of the producers"
        )
    else:
        yield Finding(level="ok", what="this configuration matches the producers'")


def _provider(config: Config, *, runs: bool) -> Iterator[Finding]:
    try:
        backend = make_backend(config)
    except AssistantQueueError as error:
        yield Finding(level="note", what=f"the provider was not asked: {error}")
        return
    if not isinstance(backend, Examinable):
        yield Finding(level="note", what=f"backend {backend_name(config)} has no provider to ask")
        return

    async def ask() -> list[Finding]:
        return [finding async for finding in examine(backend, backend_name(config), runs=runs)]

    yield from asyncio.run(ask())
