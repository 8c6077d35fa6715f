"""`assistant-queue doctor`: what could keep messages from being answered, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import click

from assistant_queue.cli.options import Where, backend_name, redis_name, where_options
from assistant_queue.cli.output import echo_json, json_option
from assistant_queue.cli.problems import FAILED
from assistant_queue.cli.provider_check import Examinable, examine
from assistant_queue.clock import SystemClock
from assistant_queue.config import Config
from assistant_queue.errors import AssistantQueueError, ConfigurationMismatch
from assistant_queue.store import control
from assistant_queue.store.calls import Space, each, plain, texts
from assistant_queue.store.connect import sync_from
from assistant_queue.store.examining import Finding, judge, read_server
from assistant_queue.store.stores import SyncStore
from assistant_queue.worker.backend import make_backend

OVERDUE_MS = 5000
"""How overdue a thread must be to be told. Chosen: later than any worker that is alive would leave it."""


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
    store = SyncStore(sync_from(config.redis, config.redis_url))
    try:
        findings = list(_examine(config, store, ask_provider=not no_provider, runs=not no_run))
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


def _examine(config: Config, store: SyncStore, *, ask_provider: bool, runs: bool) -> Iterator[Finding]:
    space = Space(config.queue_prefix, SystemClock())
    yield from judge(store.run(read_server()), redis_name(config), durability=config.durability)
    yield from _workers(space, store)
    yield from _threads(space, store)
    yield from _fingerprint(config, space, store)
    if ask_provider:
        yield from _provider(config, runs=runs)


def _workers(space: Space, store: SyncStore) -> Iterator[Finding]:
    def look() -> Any:
        return (yield [plain("PUBSUB", "NUMSUB", space.keys.tick), plain("SCARD", f"rq:workers:{space.prefix}")])

    (_, watchmen), registered = store.run(look())
    if watchmen:
        yield Finding(level="ok", what=f"{watchmen} worker process(es) of ours alive, {registered} registered with RQ")
    elif registered:
        yield Finding(
            level="warn",
            what=f"{registered} stock worker(s), nobody sweeps: recovery depends on RQ's scheduler",
            advice="start them with --worker-class assistant_queue.Worker, or run assistant-queue sweep beside them",
        )
    else:
        yield Finding(level="bad", what="no worker is alive", advice="start assistant-queue worker --app ...")


def _threads(space: Space, store: SyncStore) -> Iterator[Finding]:
    def look() -> Any:
        seconds, micros = yield plain("TIME")
        limit = int(seconds) * 1000 + int(micros) // 1000 - OVERDUE_MS
        keys = (space.keys.due, space.keys.failed, space.keys.paused, space.keys.counters, space.keys.quarantine)
        calls = [
            plain("ZCOUNT", space.keys.due, "-inf", limit),
            plain("ZCARD", space.keys.failed),
            plain("EXISTS", space.keys.paused),
            plain("HGET", space.keys.counters, "completed"),
            plain("ZCARD", space.keys.quarantine),
        ]
        return [
            (key if reply is None and key != space.keys.counters else None, reply)
            for key, reply in zip(keys, (yield from each(calls)), strict=True)
        ]

    rows = store.run(look())
    overdue, failed, paused, completed, moved = (reply for _, reply in rows)
    for key in (key for key, _ in rows if key is not None):
        yield Finding(level="bad", what=f"{key} is not of this queue's making", advice="a worker moves it aside; or delete it")
    if moved:
        yield Finding(
            level="warn",
            what=f"{moved} key(s) were not of this queue's making and were moved aside",
            advice=f"ZRANGE {space.keys.quarantine} 0 -1 names them: look at them, then delete them",
        )
    if paused:
        yield Finding(level="warn", what="the queue is paused: nothing is claimed", advice="assistant-queue resume")
    if overdue:
        yield Finding(
            level="bad", what=f"{overdue} thread(s) overdue by more than 5 s", advice="start workers; then assistant-queue sweep --once"
        )
    else:
        yield Finding(level="ok", what=f"no thread is overdue; {texts([completed])[0] or 0} messages answered so far")
    if failed:
        yield Finding(level="warn", what=f"{failed} failed batch(es) wait for a person", advice="assistant-queue failed")


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
