"""Store operations of batches that are parked while the provider works on their runs."""

from __future__ import annotations

from assistant_queue.config import to_ms
from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish
from assistant_queue.store.calls import Namespace, Operation, each, plain, text
from assistant_queue.store.ops.leases import Lease, check
from assistant_queue.values import valueclass

_WITH_WEBHOOKS_MS = 240_000
"""Least time between two polls while webhooks work: they are for a webhook that is lost. Chosen:
with what a late worker needs, below five minutes."""


@valueclass(frozen=True, slots=True)
class InTheAir:
    """Runs in the background: how many are waited for, and whether webhooks woke some lately."""

    runs: int
    webhooks_come: bool


def in_the_air(namespace: Namespace) -> Operation[InTheAir]:
    """Count the runs that batches wait for."""
    count, heard = yield from each(
        [plain("HLEN", namespace.keys.runs), plain("EXISTS", namespace.keys.heard)]
    )
    return InTheAir(int(count or 0), bool(heard))


def await_run(
    namespace: Namespace,
    lease: Lease,
    *,
    run_id: str,
    wait_s: float,
    most_s: float,
    phase: Phase,
    progress: Progress,
    seen: Wish | None = None,
) -> Operation[None]:
    """Release the thread; its batch waits for its run, or with no run until one may be started.

    It is due at once if a webhook has come already, or as `parking.park` says.
    """
    reply = yield namespace.call(
        "await_run",
        lease.thread_id,
        keys={"early": namespace.keys.early(run_id)},
        token=lease.token,
        seen=seen or "",
        run_id=run_id,
        wait_ms=to_ms(wait_s),
        most_ms=to_ms(most_s),
        quiet_ms=_WITH_WEBHOOKS_MS,
        phase=phase.value,
        progress=progress.pack(),
    )
    check(text(reply[0]), lease.thread_id)
