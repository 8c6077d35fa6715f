"""Store operations of parked batches that require the thread's lease."""

from __future__ import annotations

import json
from collections.abc import Sequence

from assistant_queue.config import to_ms
from assistant_queue.core import measures
from assistant_queue.core.progress import Progress
from assistant_queue.core.settlements import OpenCall, Settlement, SettlementKind
from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish
from assistant_queue.store.calls import Namespace, Operation, text
from assistant_queue.store.ops.leases import Lease, check

KEPT_S = 86_400.0
"""Life of an open call's record past its deadline. Chosen: a queue that is paused for a day still
finds the verdict."""


def park(
    namespace: Namespace,
    lease: Lease,
    *,
    wait_s: float,
    phase: Phase,
    progress: Progress,
    calls: Sequence[OpenCall] = (),
    new: int = 0,
    seen: Wish | None = None,
    asks: bool = False,
) -> Operation[bool]:
    """Release the thread; its batch waits for `calls`, or until `wait_s` are over.

    A batch with a wish to stop or to interrupt it is due at once, unless that is the wish that the
    caller has `seen`; so is one with a call that was settled meanwhile.

    Args:
        namespace: The queue.
        lease: The caller's.
        wait_s: Seconds until the batch is due.
        phase: How far it got.
        progress: Its memory.
        calls: All open calls for which it waits; none if it waits for the provider.
        new: How many of them were not asked for before; they are counted.
        seen: The wish that the caller knows.
        asks: The thread's channel asks about the calls that need an approval.

    Returns:
        False if a call of another batch has the id of one of them: nothing was changed.
    """
    batch = lease.claimed.batch
    asked = [
        [
            call.id,
            call.until_ms,
            call.ask(batch),
            call.record(batch),
            asks and call.kind == "approval",
        ]
        for call in calls
    ]
    reply = yield namespace.call(
        "park",
        lease.thread_id,
        rest=[namespace.keys.call(call.id) for call in calls],
        token=lease.token,
        seen=seen or "",
        wait_ms=to_ms(wait_s),
        phase=phase.value,
        progress=progress.pack(),
        asked=json.dumps(asked, ensure_ascii=False),
        kept_ms=to_ms(KEPT_S),
        counts=namespace.counted(lambda: measures.calls_asked(new)) if new else "",
    )
    word = text(reply[0])
    check(word, lease.thread_id)
    return word == "ok"


def close(
    namespace: Namespace, lease: Lease, call_ids: Sequence[str], result_ttl_s: float
) -> Operation[None]:
    """Remove the texts of calls that need no answer any more; settle the open ones as withdrawn."""
    reply = yield namespace.call(
        "close",
        lease.thread_id,
        rest=[namespace.keys.call(call_id) for call_id in call_ids],
        token=lease.token,
        ids=json.dumps(list(call_ids)),
        news=Settlement(kind=SettlementKind.WITHDRAWN).news(),
        result_ttl_ms=max(to_ms(result_ttl_s), 1),
    )
    check(text(reply[0]), lease.thread_id)
