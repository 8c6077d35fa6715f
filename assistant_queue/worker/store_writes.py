"""Writes of a lease's holder, through a Redis that is away or refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from assistant_queue.errors import LeaseLost, NotReplicated
from assistant_queue.store.calls import Operation
from assistant_queue.store.ops import leases
from assistant_queue.worker.lease import HeldLease
from assistant_queue.worker.outage import PASSES, pause_s

if TYPE_CHECKING:
    from assistant_queue.worker.runtime import Runtime

STORE_RETRY_S = 0.2
"""Seconds between the first two tries while Redis is away. Chosen: an outage of a moment costs a
batch no more than that."""
_GROWTH = 1.5
_MAX_RETRY_S = 1.0
"""Factor of each further pause, and the longest. Chosen: four hundred batches must not keep a
Redis that is full busy."""


async def write(
    runtime: Runtime, held: HeldLease[Any], operation: Callable[[], Operation[Any]]
) -> Any:
    """Write to Redis, again and again until it is done or the lease's deadline has passed.

    Retries continue after the lease has lapsed: a Redis that refuses this write refuses every
    other worker's claim, too, and one that has let another worker claim refuses the write as
    `lost`. So the provider, or the platform, is not asked a second time for an answer that is
    known.
    """
    retry_s = STORE_RETRY_S
    while True:
        try:
            done = await write_once(runtime, operation)
        except NotReplicated:
            raise  # the script has waited for the replicas; the caller decides what follows
        except PASSES as error:
            if held.is_over() or held.is_lost:
                raise
            await asyncio.sleep(pause_s(error, retry_s))
            retry_s = min(retry_s * _GROWTH, _MAX_RETRY_S)
        else:
            return done


async def ensure_lease(runtime: Runtime, held: HeldLease[Any], what: str) -> None:
    """Renew the lease if it ends so soon that another worker could make the same call.

    Raises:
        LeaseLost: Another worker holds it; `what` names it.
    """
    if held.remaining_s() >= runtime.lease_margin_s:
        return
    lease_s = runtime.config.lock_duration
    asked_at = 0.0

    def renewal() -> Operation[leases.Renewed | None]:
        nonlocal asked_at
        asked_at = runtime.clock.monotonic()  # of the try that succeeds
        return leases.renew(runtime.namespace, held.lease, lease_s)

    renewed = None if held.is_lost else await write(runtime, held, renewal)
    if renewed is None:
        held.lose()
        raise LeaseLost(f"{what} is another worker's now; nothing was sent")
    held.extend(asked_at, lease_s, renewed)


async def write_once(runtime: Runtime, operation: Callable[[], Operation[Any]]) -> Any:
    """Write to Redis; do not retry."""
    try:
        done = await runtime.store.run(operation())
    except NotReplicated:
        raise
    except PASSES as error:
        runtime.outage.failed("writes", error)
        raise
    runtime.outage.passed("writes")
    return done
