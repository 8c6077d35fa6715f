"""The core of a queue object: its options, the names of its keys, and its connection to Redis.

Process-internal. Both queue classes are interfaces over a core; the HTTP service, the command and
rehearsals use the core of the queue object that they serve (`queue.core`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from assistant_queue.clock import Clock, SystemClock
from assistant_queue.config import Config
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops.namespaces import namespace_of
from assistant_queue.store.transport.connect import async_from, fresh, sync_from
from assistant_queue.store.transport.pinned import PinnedConnection
from assistant_queue.store.transport.stores import AsyncStore, SyncStore

StoreT = TypeVar("StoreT", SyncStore, AsyncStore)


@dataclass(frozen=True, slots=True)
class QueueCore(Generic[StoreT]):
    """One queue in one process.

    Attributes:
        config: The queue's options.
        namespace: Its keys, and how its scripts are called.
        store: Runs operations on Redis.
    """

    config: Config
    namespace: Namespace
    store: StoreT

    @property
    def clock(self) -> Clock:
        """The clock of the namespace."""
        return self.namespace.clock

    @property
    def owns_client(self) -> bool:
        """True if the store's client was created here; a caller's client is not closed."""
        return self.store.client is not self.config.redis


def open_core(config: Config, clock: Clock | None = None) -> QueueCore[SyncStore]:
    """Return a core with a blocking store; connects at the first operation.

    Args:
        config: The queue's options.
        clock: None for the system's.

    Raises:
        ConfigurationError: `redis_url` cannot be read, or the caller's client cannot be copied.
    """
    namespace = namespace_of(config, clock or SystemClock())
    client = sync_from(config.redis, config.redis_url)
    # A caller's client may have no connection to spare.
    execute = PinnedConnection(client).execute if config.redis is None else None
    return QueueCore(config, namespace, SyncStore(client, execute=execute, namespaces=(namespace,)))


def open_async_core(config: Config, clock: Clock | None = None) -> QueueCore[AsyncStore]:
    """Return a core with an asyncio store; arguments and errors as of `open_core`."""
    namespace = namespace_of(config, clock or SystemClock())
    client = async_from(config.redis, config.redis_url)
    store = AsyncStore(client, keeps=config.redis is None, namespaces=(namespace,))
    return QueueCore(config, namespace, store)


def open_core_on_loop(core: QueueCore[SyncStore]) -> QueueCore[AsyncStore]:
    """Return an asyncio core of the same queue for another event loop, with own connections."""
    config = core.config
    client = async_from(config.redis, config.redis_url)
    own = fresh(client) if client is config.redis else client
    return QueueCore(config, core.namespace, AsyncStore(own, namespaces=(core.namespace,)))


def ready_core(given: Sequence[Any], options: Mapping[str, Any]) -> QueueCore[Any]:
    """Return the core that is the only argument of a queue class.

    Raises:
        TypeError: The arguments are anything else, such as a Redis URL without its keyword.
    """
    if len(given) == 1 and isinstance(given[0], QueueCore) and not options:
        return given[0]
    kinds = ", ".join(type(value).__name__ for value in given)
    raise TypeError(
        f"a queue takes options as keywords only, such as redis_url=...; got positional {kinds}"
    )
