"""`assistant-queue doctor`: what could keep messages from being answered, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
from redis import exceptions

from assistant_queue.cli.options import Where, backend_name, redis_name, where_options
from assistant_queue.cli.output import echo_json, json_option
from assistant_queue.cli.problems import FAILED
from assistant_queue.clock import SystemClock
from assistant_queue.config import Config
from assistant_queue.errors import AssistantQueueError, ConfigurationMismatch, UnknownThread
from assistant_queue.store import control
from assistant_queue.store.calls import Space, plain, texts
from assistant_queue.store.connect import sync_from
from assistant_queue.store.stores import SyncStore, translate
from assistant_queue.worker.backend import make_backend

LOWEST_REDIS = (6, 2)
"""Source: docs/production.md; the suite runs on 6.2."""
OVERDUE_MS = 5000
"""How overdue a thread must be to be told. Chosen: later than any worker that is alive would leave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at.

    Attributes:
        level: `ok`, `note` (know it), `warn` (messages can be lost or late) or `bad` (nothing will be answered).
        advice: What to do; empty where nothing is.
    """

    level: str
    what: str
    advice: str = ""


@click.command(short_help="Look for what could keep messages from being answered.")
@click.option("--no-provider", is_flag=True, help="Do not ask the provider.")
@json_option
@where_options
def doctor(*, where: Where, no_provider: bool, as_json: bool) -> None:
    """Look at Redis, the workers, the threads and the provider; say what is wrong and what to do about it.

    Looks at: Redis' version, persistence, eviction policy and replicas; workers that are alive; threads nobody looks at; failed batches; a
    pause; whether this configuration is the producers' one; whether the provider answers and takes the key.

    \b
    assistant-queue doctor --app myapp:queue
    assistant-queue doctor --json

    Exit codes: 0 nothing bad, 1 something bad, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    config = where.config()
    store = SyncStore(sync_from(config.redis, config.redis_url))
    try:
        findings = list(_examine(config, store, ask_provider=not no_provider))
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


def _examine(config: Config, store: SyncStore, *, ask_provider: bool) -> Iterator[Finding]:
    space = Space(config.queue_prefix, SystemClock())
    server = _ask(store, "INFO", "server") or {}
    yield from _version(config, server)
    yield from _persistence(_ask(store, "INFO", "persistence") or {}, _ask(store, "INFO", "replication") or {})
    yield from _eviction(_ask(store, "CONFIG", "GET", "maxmemory-policy"))
    yield from _workers(space, store)
    yield from _threads(space, store)
    yield from _fingerprint(config, space, store)
    if ask_provider:
        yield from _provider(config)


def _ask(store: SyncStore, *words: str) -> Any:
    """A command's reply; None where the ACL forbids it. What else goes wrong ends the command."""
    commands: dict[str, Callable[..., Any]] = {"INFO": store.client.info, "CONFIG": lambda _get, name: store.client.config_get(name)}
    try:
        return commands[words[0]](*words[1:])
    except (exceptions.NoPermissionError, exceptions.ResponseError):
        return None
    except (exceptions.RedisError, OSError) as error:
        raise translate(error) from error


def _version(config: Config, server: dict[str, Any]) -> Iterator[Finding]:
    version = str(server.get("valkey_version") or server.get("redis_version") or "unknown")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < LOWEST_REDIS and "valkey_version" not in server:
        yield Finding(level="bad", what=f"{redis_name(config)}: version {version}", advice="upgrade to Redis 6.2 or later, or to Valkey")
    else:
        yield Finding(level="ok", what=f"{redis_name(config)}: version {version}")


def _persistence(persistence: dict[str, Any], replication: dict[str, Any]) -> Iterator[Finding]:
    if persistence.get("aof_enabled"):
        yield Finding(level="ok", what="append-only file: on; a crash of Redis can cost the last second, nothing with appendfsync always")
    elif persistence:
        yield Finding(
            level="warn",
            what="append-only file: off; a crash of Redis loses what came since its last snapshot",
            advice="set appendonly yes in redis.conf",
        )
    count = replication.get("connected_slaves", 0)
    if count:
        yield Finding(level="note", what=f"{count} replica(s); a failover can lose what they had not received")


def _eviction(found: Any) -> Iterator[Finding]:
    policy = (found or {}).get("maxmemory-policy")
    if policy is None:
        yield Finding(level="note", what="maxmemory-policy cannot be read here", advice="see that it is noeviction")
    elif policy == "noeviction":
        yield Finding(level="ok", what="maxmemory-policy: noeviction")
    else:
        yield Finding(
            level="bad",
            what=f"maxmemory-policy: {policy}; Redis may throw messages away when its memory is full",
            advice="set maxmemory-policy noeviction",
        )


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
        return (
            yield [
                plain("ZCOUNT", space.keys.due, "-inf", limit),
                plain("ZCARD", space.keys.failed),
                plain("EXISTS", space.keys.paused),
                plain("HGET", space.keys.counters, "completed"),
            ]
        )

    overdue, failed, paused, completed = store.run(look())
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


def _provider(config: Config) -> Iterator[Finding]:
    try:
        backend = make_backend(config)
    except AssistantQueueError as error:
        yield Finding(level="note", what=f"the provider was not asked: {error}")
        return
    if not backend.capabilities.conversations:
        yield Finding(level="note", what=f"backend {backend_name(config)} has no provider to ask")
        return

    async def ask() -> None:
        try:
            await backend.locate("conv_" + "0" * 32)
        finally:
            await backend.close()

    try:
        asyncio.run(ask())
    except UnknownThread:
        yield Finding(level="ok", what=f"the provider answers and takes the key: {backend_name(config)}")
    except AssistantQueueError as error:
        yield Finding(level="bad", what=f"the provider did not answer as it should: {error}", advice="check the key and openai_base_url")
    else:
        yield Finding(level="ok", what=f"the provider answers: {backend_name(config)}")
