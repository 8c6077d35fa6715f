"""Redis' errors, translated: temporary refusals, denied access, connections to wrong servers."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any

from redis import exceptions

from assistant_queue.config import NO_CLUSTER
from assistant_queue.errors import (
    ConfigurationError,
    NotEncodable,
    NotPermitted,
    StoreError,
    StoreUnavailable,
)

PASSING: Mapping[str, str] = MappingProxyType(
    {
        "OOM": "its memory is full: raise maxmemory or make room",
        "MISCONF": "it cannot save to its disk: see its log, and whether the disk is full",
        "BUSY": "it runs a script that takes long: wait, or end that with SCRIPT KILL",
        "UNKILLABLE": "it runs a script that takes long and has written: wait",
        "READONLY": "it is a read-only replica: point redis_url at the primary, or use Sentinel",
        "NOREPLICAS": "fewer replicas are connected than min-replicas-to-write asks for",
        "LOADING": "it still loads its data: wait",
        "MASTERDOWN": "it is a replica that has lost its primary: point redis_url at the primary, "
        "or use Sentinel",
        "UNBLOCKED": "it became a replica while the command waited: point redis_url at the "
        "primary, or use Sentinel",
        "CLUSTERDOWN": "slots of its cluster are not served",
        "TRYAGAIN": "slots of its cluster are being moved",
    }
)
"""Redis' word for a temporary refusal, and its meaning: the same command is accepted later."""

_ASTRAY = frozenset({"READONLY", "MASTERDOWN", "UNBLOCKED"})
"""The server is no primary (any more). The address may lead to another one by now, the connection
never will."""
_CLUSTER_WORDS = frozenset({"CLUSTERDOWN", "TRYAGAIN"})
_CLUSTERS = (exceptions.AskError, exceptions.ClusterCrossSlotError)
"""Errors of a Redis in cluster mode only: MOVED and ASK, CROSSSLOT."""
_NO_SELECT = "SELECT is not allowed in cluster mode"
"""Source: Redis, src/db.c; the error if the URL names a database."""
_CLASSES: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
    (exceptions.TryAgainError, "TRYAGAIN"),
)
"""Refusals for which redis-py has a class, most specific first: it removes the word from the
text."""
_PIPELINED = re.compile(r"\ACommand # \d+ .* of pipeline caused error: ", re.DOTALL)
"""redis-py's prefix of a pipeline's error: the command, including users' texts."""
_IN_SCRIPT = re.compile(r"@user_script: ?\d+: -([A-Z]+) ")
"""A refused command within a script, as Redis before 7 reports it."""
_SCRIPTS_PLACE = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.?\Z")
"""Redis 7's suffix of such an error."""
_DENIED_IN_SCRIPT = ("ACL failure in script", "The user executing the script can't")
"""An ACL's refusal within a script: Redis 7 and later; Redis 6. Source: Redis, src/script.c and
src/scripting.c."""
_ASKS_FOR_PASSWORD = (
    "Authentication required",
    "HELLO must be called with the client already authenticated",
)
"""NOAUTH as redis-py reports it, without the word: for any command, and for a connection's
first."""


def word_of(error: Exception) -> str:
    """Return the first word of a refusal (`OOM`, `NOSCRIPT`), "" if it has none."""
    for kind, word in _CLASSES:
        if isinstance(error, kind):
            return word
    said = _PIPELINED.sub("", str(error))
    within = _IN_SCRIPT.search(said)
    word = within[1] if within else said.partition(" ")[0]
    return word if word.isalpha() and word.isupper() else ""


def leads_astray(error: Any) -> bool:
    """Return whether an error means that its connection leads to a server that is no primary."""
    return isinstance(error, exceptions.ResponseError) and word_of(error) in _ASTRAY


def translate(error: Exception, *, has_served: bool = False) -> Exception:
    """Return a redis-py error as this package's, most specific first; any other error unchanged.

    Args:
        error: The error.
        has_served: This Redis has run a script before: it is no cluster, whatever a proxy replies
            while it is down.
    """
    if isinstance(error, _CLUSTERS) or (
        isinstance(error, exceptions.ResponseError) and _NO_SELECT in str(error)
    ):
        return ConfigurationError(NO_CLUSTER)
    if isinstance(error, UnicodeEncodeError):
        half = error.object[error.start : error.end]
        return NotEncodable(
            f"A key or a word contains {half!a}, half of a surrogate pair, which is not UTF-8; "
            "nothing was sent: repair the text"
        )
    if isinstance(error, exceptions.DataError):
        return NotEncodable(f"A command cannot be sent: {_said(error)}; nothing was sent")
    if not isinstance(error, exceptions.RedisError | OSError):
        return error
    word = word_of(error)
    if word in _CLUSTER_WORDS and not has_served:
        return ConfigurationError(NO_CLUSTER)
    if word in PASSING:
        return StoreUnavailable(
            f"Redis refuses for now, {word} ({_said(error)}): {PASSING[word]}", refusal=word
        )
    denied = _denied(error)
    if denied:
        return NotPermitted(denied)
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError):
        return StoreUnavailable(
            f"Redis did not answer: {_said(error)}; check that it runs and that redis_url is right"
        )
    return StoreError(f"Redis refused a command: {error}")


@contextmanager
def translated() -> Iterator[None]:
    """Raise redis-py's errors within the block as this package's."""
    try:
        yield
    except (exceptions.RedisError, OSError) as error:
        raise translate(error) from error


def _said(error: Exception) -> str:
    """Return the text of a Redis error, without the place in a script and without the command."""
    said = _PIPELINED.sub("", str(error))
    within = _IN_SCRIPT.search(said)
    word = word_of(error)
    said = (
        said[within.end() :]
        if within
        else said.removeprefix(f"{word} ")
        if word in PASSING
        else said
    )
    return _SCRIPTS_PLACE.sub("", said).rstrip(". ")


def _denied(error: Exception) -> str:
    """Return the message for a denied login or command; "" for any other error.

    It contains no password.
    """
    said = _said(error)
    if isinstance(error, exceptions.AuthenticationError):
        if any(words in str(error) for words in _ASKS_FOR_PASSWORD):
            return (
                "Redis asks for a password (NOAUTH); add it to redis_url: "
                "redis://user:password@host"
            )
        return (
            f"Redis does not accept the user or the password of redis_url ({said}); check both, "
            "and that the user is enabled"
        )
    if isinstance(error, exceptions.NoPermissionError) or any(
        words in str(error) for words in _DENIED_IN_SCRIPT
    ):
        return (
            f"The user of redis_url may not do this (NOPERM: {said}); check its ACL: "
            "docs/redis-users.acl lists the rights of each user"
        )
    return ""


def hang_up_idle(client: Any) -> None:
    """Close a blocking client's idle connections: the next command resolves the address anew."""
    pool = client.connection_pool
    try:
        pool.disconnect(inuse_connections=False)
    except TypeError:  # the blocking pool of redis-py before 7 closes all or none
        for connection in list(pool.pool.queue):
            if connection is not None:
                connection.disconnect()


def hang_up_pubsub(pubsub: Any) -> None:
    """Make a blocking pub/sub that another thread reads connect anew, and subscribe again."""
    sock = getattr(getattr(pubsub, "connection", None), "_sock", None)
    if sock is not None:
        with suppress(OSError):  # closed already
            sock.shutdown(socket.SHUT_RDWR)


async def hang_up_idle_async(client: Any) -> None:
    """Close an asyncio client's idle connections (see `hang_up_idle`)."""
    with suppress(exceptions.RedisError, OSError):
        await client.connection_pool.disconnect(inuse_connections=False)
