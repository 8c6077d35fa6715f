"""`assistant-queue doctor`: what could keep messages from being answered, and what to do about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import click

from assistant_queue.cli.options import Where, backend_name, redis_name, where_options
from assistant_queue.cli.output import echo_json, json_option
from assistant_queue.cli.problems import FAILED
from assistant_queue.cli.provider_check import Examinable, examine
from assistant_queue.clock import SystemClock
from assistant_queue.config import Config
from assistant_queue.errors import AssistantQueueError, ConfigurationMismatch, NotPermitted, StoreError, StoreUnavailable
from assistant_queue.store import control
from assistant_queue.store.calls import Space
from assistant_queue.store.connect import sync_from
from assistant_queue.store.examining import Finding, judge, judge_nesting, read_server, refuse_cluster
from assistant_queue.store.health import read_abandoned, read_health, read_workers
from assistant_queue.store.layout import read_nestings
from assistant_queue.store.stores import SyncStore
from assistant_queue.store.sweeping import TERM_MS
from assistant_queue.worker.backend import make_backend

OVERDUE_MS = 5000
"""How overdue a thread must be to be told. Chosen: later than any worker that is alive would leave it."""
_LOOKS = 3
"""How often it is asked within the time for which a watchman says that it is alive. Chosen: a busy one is late by less."""
_ASK_A_VIEWER = "ask as the user `viewer` of docs/redis-users.acl, or as one that may do everything"


@click.command(short_help="Look for what could keep messages from being answered.")
@click.option("--no-provider", is_flag=True, help="Do not ask the provider.")
@click.option("--no-run", is_flag=True, help="Do not have the model answer a question, which costs a few tokens.")
@json_option
@where_options
def doctor(*, where: Where, no_provider: bool, no_run: bool, as_json: bool) -> None:
    """Look at Redis, the workers, the threads and the provider; say what is wrong and what to do about it.

    Looks at: Redis' version, persistence, eviction policy and replicas; workers that are alive; threads nobody looks at; failed batches; a
    pause; whether this configuration is the producers' one; whether the provider answers, takes the key, makes and deletes a conversation,
    knows the model, and answers a question of six words; which remedies its server needs.

    \b
    assistant-queue doctor --app myapp:queue
    assistant-queue doctor --json

    Exit codes: 0 nothing bad, 1 something bad, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    config = where.config()
    space = Space(config.queue_prefix, SystemClock())
    store = SyncStore(sync_from(config.redis, config.redis_url), spaces=(space,))
    try:
        findings = list(_examine(config, space, store, ask_provider=not no_provider, runs=not no_run))
    finally:
        store.close()
    for finding in findings:
        if as_json:
            echo_json(finding)
        else:
            click.echo(f"{finding.level:>4}  {finding.what}")
            if finding.advice:
                click.echo(f"      -> {finding.advice}")
    if any(finding.level == "bad" for finding in findings):
        raise SystemExit(FAILED)


def _examine(config: Config, space: Space, store: SyncStore, *, ask_provider: bool, runs: bool) -> Iterator[Finding]:
    server = store.run(read_server())
    refuse_cluster(server)
    yield from judge(server, redis_name(config), durability=config.durability)
    yield from _as_far_as_permitted("the workers", _workers(space, store))
    yield from _as_far_as_permitted("the threads", _threads(space, store))
    yield from _as_far_as_permitted("whether other queues have the same keys", _nestings(space, store))
    yield from _as_far_as_permitted("what the producers believe", _fingerprint(config, space, store))
    if ask_provider:
        yield from _provider(config, runs=runs)


def _as_far_as_permitted(what: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Let a command that Redis refuses end its own check, not those after it."""
    try:
        yield from findings
    except StoreUnavailable:
        raise
    except NotPermitted as error:
        yield Finding(level="note", what=f"{what} cannot be looked at by this user of Redis: {error}", advice=_ASK_A_VIEWER)
    except StoreError as error:
        yield Finding(level="bad", what=f"{what} cannot be looked at: {error}", advice="look at the key that it names")


def _workers(space: Space, store: SyncStore) -> Iterator[Finding]:
    found = store.run(read_workers(space))
    for _ in range(_LOOKS):
        if found.watched or not found.registered:
            break
        time.sleep(TERM_MS / 1000 / _LOOKS)  # a watchman that is busy says so a moment later
        found = store.run(read_workers(space))
    if found.watched and found.registered:
        yield Finding(level="ok", what=f"{found.registered} worker process(es) registered with RQ, and a timer that wakes them")
    elif found.registered:
        yield Finding(
            level="warn",
            what=f"{found.registered} stock worker(s) and no sweeper: recovery depends on RQ's scheduler",
            advice="start them with --worker-class assistant_queue.Worker, or run assistant-queue sweep beside them",
        )
    elif found.watched:
        yield Finding(
            level="bad", what="a timer wakes threads, and no worker is alive to answer", advice="start assistant-queue worker --app ..."
        )
    else:
        yield Finding(level="bad", what="no worker is alive", advice="start assistant-queue worker --app ...")
    yield from _abandoned(space, store)


def _abandoned(space: Space, store: SyncStore) -> Iterator[Finding]:
    try:
        count = store.run(read_abandoned(space))
    except NotPermitted:
        return  # not worth a note
    if count:
        yield Finding(
            level="warn",
            what=f"{count} call(s) of your functions were given up at their time limit and go on",
            advice="the workers' logs name them: give the clients within them time-outs of their own",
        )


def _threads(space: Space, store: SyncStore) -> Iterator[Finding]:
    found = store.run(read_health(space, OVERDUE_MS))
    for key in found.foreign:
        yield Finding(level="bad", what=f"{key} is not of this queue's making", advice="a worker moves it aside; or delete it")
    if found.refused:
        commands = ", ".join(dict.fromkeys(found.refused))
        yield Finding(level="note", what=f"not everything can be looked at: this user of Redis may not {commands}", advice=_ASK_A_VIEWER)
    if found.moved:
        yield Finding(
            level="warn",
            what=f"{found.moved} key(s) were not of this queue's making and were moved aside",
            advice=f"ZRANGE {space.keys.quarantine} 0 -1 names them: look at them, then delete them",
        )
    if found.paused:
        yield Finding(level="warn", what="the queue is paused: nothing is claimed", advice="assistant-queue resume")
    if found.overdue:
        yield Finding(
            level="bad",
            what=f"{found.overdue} thread(s) overdue by more than 5 s",
            advice="start workers; then assistant-queue sweep --once",
        )
    elif found.overdue is not None:
        answered = "" if found.completed is None else f"; {found.completed} messages answered so far"
        yield Finding(level="ok", what=f"no thread is overdue{answered}")
    if found.failed:
        yield Finding(level="warn", what=f"{found.failed} failed batch(es) wait for a person", advice="assistant-queue failed")


def _nestings(space: Space, store: SyncStore) -> Iterator[Finding]:
    yield from map(judge_nesting, store.run(read_nestings(space)))


def _fingerprint(config: Config, space: Space, store: SyncStore) -> Iterator[Finding]:
    try:
        store.run(control.check_in(space, config.fingerprint))
    except ConfigurationMismatch as error:
        yield Finding(level="bad", what=str(error), advice="give the workers the app of the producers")
    else:
        yield Finding(level="ok", what="this configuration is the producers' one, as far as both say")


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
