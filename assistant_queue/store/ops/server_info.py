"""Settings of a Redis server that the guarantees depend on, for workers and the doctor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from assistant_queue.config import NO_CLUSTER
from assistant_queue.errors import ConfigurationError, StoreError
from assistant_queue.store.calls import Operation, plain
from assistant_queue.store.layout import Nesting
from assistant_queue.values import valueclass

LOWEST_REDIS = (6, 2)
"""Source: docs/production.md; the suite runs on 6.2."""

_SECTIONS = ("server", "persistence", "replication", "memory", "cluster")


@valueclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        level: `ok`, `note` (for information), `warn` (messages can be lost or late) or `bad` (no
            message will be answered).
        advice: What to do; empty for nothing.
    """

    level: str
    what: str
    advice: str = ""


@valueclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """A Redis server's settings; None for those that it does not report, or that are forbidden."""

    version: str | None = None
    is_valkey: bool = False
    append_only: bool | None = None
    replicas: int | None = None
    eviction: str | None = None
    is_cluster: bool = False

    @property
    def evicts(self) -> bool:
        """Whether Redis deletes keys when its memory is full."""
        return self.eviction not in {None, "noeviction"}


def read_server(names: Sequence[str] = _SECTIONS) -> Operation[ServerInfo]:
    """Read a Redis server's settings, in one round trip; `names` are sections of its `INFO`."""
    try:
        sections: list[Any] = yield [plain("INFO", name) for name in names]
    except StoreError:
        return ServerInfo()
    said: dict[str, Any] = {
        name: value
        for section in sections
        if isinstance(section, dict)
        for name, value in section.items()
    }
    version = said.get("valkey_version") or said.get("redis_version")
    append_only = said.get("aof_enabled")
    return ServerInfo(
        version=None if version is None else str(version),
        is_valkey="valkey_version" in said,
        append_only=None if append_only is None else bool(append_only),
        replicas=int(said["connected_slaves"]) if "connected_slaves" in said else None,
        eviction=said.get("maxmemory_policy"),
        is_cluster=str(said.get("cluster_enabled", 0)) == "1",
    )


def judge(
    server: ServerInfo, name: str = "Redis", *, durability: str = "local"
) -> Iterator[Finding]:
    """Yield the possible cost of a crash of this Redis, and its wrong settings; `name` is shown."""
    yield _version(server, name)
    if server.append_only:
        yield Finding(
            level="ok",
            what="append-only file: on; a crash of Redis can cost the last second, "
            "nothing with appendfsync always",
        )
    elif server.append_only is None:
        yield Finding(
            level="note",
            what="append-only file: cannot be read here",
            advice="check that appendonly is yes",
        )
    else:
        yield Finding(
            level="warn",
            what="append-only file: off; a crash of Redis loses all data since its last snapshot",
            advice="set appendonly yes in redis.conf",
        )
    yield from _replicas(server, durability)
    if server.eviction is None:
        yield Finding(
            level="note",
            what="maxmemory-policy: cannot be read here",
            advice="check that it is noeviction",
        )
    elif server.evicts:
        yield Finding(
            level="bad",
            what=f"maxmemory-policy: {server.eviction}; Redis may delete messages when its memory "
            "is full",
            advice="set maxmemory-policy noeviction",
        )
    else:
        yield Finding(level="ok", what="maxmemory-policy: noeviction")


def _replicas(server: ServerInfo, durability: str) -> Iterator[Finding]:
    if durability == "replicated":
        if server.replicas is None:
            yield Finding(
                level="note",
                what="durability='replicated': replicas cannot be read here",
                advice="check that one is connected: without it adds are refused and nothing is "
                "sent",
            )
        elif server.replicas:
            yield Finding(
                level="ok", what=f"durability='replicated': {server.replicas} replica(s) connected"
            )
        else:
            yield Finding(
                level="bad",
                what="durability='replicated', and Redis has no replica: every add is refused and "
                "nothing is sent",
                advice="connect a replica, or set durability='local'",
            )
    elif server.replicas:
        yield Finding(
            level="note",
            what=f"{server.replicas} replica(s); a failover can lose data that they do not have",
            advice="durability='replicated' waits for them",
        )


def _version(server: ServerInfo, name: str) -> Finding:
    numbers = tuple(int(part) for part in (server.version or "").split(".")[:2] if part.isdigit())
    too_old = bool(numbers) and numbers < LOWEST_REDIS and not server.is_valkey
    return Finding(
        level="bad" if too_old else "ok",
        what=f"{name}: version {server.version or 'unknown'}",
        advice="upgrade to Redis 6.2 or later, or to Valkey" if too_old else "",
    )


def judge_nesting(nesting: Nesting) -> Finding:
    """Return the consequence of two queues that can use the same key."""
    inner = nesting.inner
    outer = nesting.outer
    if nesting.in_rq:
        return Finding(
            level="warn",
            what=f"queue {inner!r} has the name of a key that RQ keeps for queue {outer!r}: "
            "forking workers there take its wake-ups",
            advice=f"give {inner!r} another queue_prefix, or let only concurrent workers serve "
            f"{outer!r}",
        )
    return Finding(
        level="warn",
        what=f"queue {inner!r} was created by version 0.1, and its keys can be those of a thread "
        f"of queue {outer!r}",
        advice=f"give {inner!r} another queue_prefix when nothing waits in it",
    )


def refuse_any_cluster() -> Operation[None]:
    """Refuse a Redis in cluster mode, in one round trip.

    Commands with a single key would succeed on some of its nodes.

    Raises:
        ConfigurationError: Redis is in cluster mode.
    """
    refuse_cluster((yield from read_server(("cluster",))))


def refuse_cluster(server: ServerInfo) -> None:
    """Refuse a Redis that keeps one queue's keys on several nodes.

    Raises:
        ConfigurationError: Redis is in cluster mode.
    """
    if server.is_cluster:
        raise ConfigurationError(NO_CLUSTER)


def refuse_eviction(server: ServerInfo) -> None:
    """Refuse a Redis that may delete accepted messages.

    Raises:
        ConfigurationError: Redis has an evicting policy.
    """
    if server.evicts:
        raise ConfigurationError(
            f"Redis has maxmemory-policy {server.eviction}: it may delete accepted messages when "
            "its memory is full; set it to noeviction, or set allow_eviction=True to start anyway"
        )
