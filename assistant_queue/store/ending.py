"""How a batch ends, by the worker that holds its thread's lease: answered, or on the failed list. `LeaseLost` as in `holding`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.core.progress import Progress, dump_error, dump_result
from assistant_queue.models import ErrorInfo, RunResult
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Operation, Space, text
from assistant_queue.store.holding import Lease, check, message_keys
from assistant_queue.store.rq_jobs import call_for


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRules:
    """How results are kept."""

    result_ttl_s: float
    keep_text: bool


def _result_args(space: Space, lease: Lease, result: RunResult, anchor: str | None, rules: ResultRules) -> dict[str, Any]:
    return {
        "result": json.dumps(dump_result(result), separators=(",", ":"), ensure_ascii=False),
        "result_ttl_ms": max(to_ms(rules.result_ttl_s), 1),
        "keep_text": "1" if rules.keep_text else "",
        "anchor": anchor or "",
        "done": space.keys.done(lease.thread_id),
    }


def complete(
    space: Space, lease: Lease, *, result: RunResult, progress: Progress, anchor: str | None, rules: ResultRules
) -> Operation[None]:
    """Store the results and tell those who wait; the lease stays until the reply is delivered."""
    reply = yield space.call(
        "complete",
        lease.thread_id,
        keys={"record": space.keys.record(result.batch_id)},
        rest=message_keys(space, result.message_ids),
        token=lease.token,
        progress=progress.dump(),
        **_result_args(space, lease, result, anchor, rules),
    )
    check(text(reply[0]), lease.thread_id)


def finish(space: Space, lease: Lease, *, guard_id: str, result: RunResult, anchor: str | None, rules: ResultRules) -> Operation[bool]:
    """Store the results, drop the batch, release the lease; True if messages wait and a wake-up is on its way."""
    reply = yield call_for(
        lease.job,
        space,
        "finish",
        lease.thread_id,
        keys={"record": space.keys.record(result.batch_id), "guard": wakeups.job_key(guard_id)},
        rest=message_keys(space, result.message_ids),
        token=lease.token,
        guard_id=guard_id,
        **_result_args(space, lease, result, anchor, rules),
    )
    word = text(reply[0])
    check(word, lease.thread_id)
    return word == "pending"


def bury(
    space: Space,
    lease: Lease,
    guard_id: str,
    *,
    reason: str,
    error: ErrorInfo,
    progress: Progress,
    message_ids: Sequence[str],
    open_calls: Sequence[str],
    pause: bool,
    keep_anchor: bool = False,
    fallback: str | None = None,
) -> Operation[None]:
    """Put the batch on the failed list and release the lease; `keep_anchor` where nothing of it can stand in the conversation."""
    failure = {
        "reason": reason,
        "error": dump_error(error),
        "attempts": progress.attempts,
        "known_run_id": progress.run_id,
        "message_ids": list(message_ids),
        "held": progress.held,
    }
    if fallback is not None:
        failure["fallback"] = fallback
    batch_id = lease.claimed.batch.id
    reply = yield call_for(
        lease.job,
        space,
        "bury",
        lease.thread_id,
        keys={"record": space.keys.record(batch_id), "dead": space.keys.dead(batch_id), "guard": wakeups.job_key(guard_id)},
        rest=message_keys(space, message_ids),
        token=lease.token,
        failure=json.dumps(failure, separators=(",", ":"), ensure_ascii=False),
        pause="1" if pause else "",
        keep_anchor="1" if keep_anchor else "",
        done=space.keys.done(lease.thread_id),
        open=json.dumps(list(open_calls), ensure_ascii=False) if open_calls else "",
        guard_id=guard_id,
    )
    check(text(reply[0]), lease.thread_id)
