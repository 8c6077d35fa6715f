"""Ends of a batch, written by the holder of its thread's lease: answered, or on the failed list.

`LeaseLost` as in `leases`. `Wished`, from an end that is not a stop: the batch is to be stopped,
which the caller has not `seen`; nothing was changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.core import measures
from assistant_queue.core.account import dump_account, timeline_of
from assistant_queue.core.compact_json import to_json
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.journal_entries import dump_batch, of_failure, of_result
from assistant_queue.core.progress import Progress, dump_error, dump_result, moment
from assistant_queue.core.stored_rows import ToolRow, dump_usage
from assistant_queue.core.wishes import Wish, Wished
from assistant_queue.models import ErrorInfo, RunResult, Timeline
from assistant_queue.store import audit_codec, wakeups
from assistant_queue.store.calls import Namespace, Operation, text, texts
from assistant_queue.store.ops.leases import Lease, check, message_keys
from assistant_queue.store.ops.reply_outbox import DeliveryLease
from assistant_queue.store.reply_codec import WaitingReply, pack_reply
from assistant_queue.values import valueclass


@valueclass(frozen=True, slots=True, kw_only=True)
class ResultRules:
    """Retention of results."""

    result_ttl_s: float
    keep_text: bool


@valueclass(frozen=True, slots=True, kw_only=True)
class DeliveryWish:
    """Request of a delivery with the end of a batch.

    Attributes:
        token: The lease of the delivery, if the caller can deliver at once; "" if it cannot. Fresh,
            and never used again.
        lease_s: Its length.
        needs_guard: As that of `DeliveryLease`.
    """

    token: str
    lease_s: float
    needs_guard: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a batch.

    Attributes:
        has_pending: Messages wait, for which a wake-up is on its way.
        delivery: The lease of its delivery, if the caller got it.
    """

    has_pending: bool
    delivery: DeliveryLease | None


def _delivery_args(
    wish: DeliveryWish | None, result: RunResult | None, preview: str | None = None
) -> dict[str, Any]:
    if wish is None or result is None:
        return {"reply": "", "delivery_token": "", "lease_ms": 0}
    return {
        "reply": pack_reply(result, preview),
        "delivery_token": wish.token,
        "lease_ms": to_ms(wish.lease_s),
    }


def _ended(
    reply: list[Any],
    lease: Lease,
    wish: DeliveryWish | None,
    result: RunResult | None,
    preview: str | None = None,
) -> Ended:
    word, until, now = texts(reply) if len(reply) > 1 else (text(reply[0]), "", "")
    check(word, lease.thread_id)
    if word == "stopping":
        raise Wished(Wish.STOP)
    delivery = None
    if until and wish is not None and result is not None:
        delivery = DeliveryLease(
            thread_id=lease.thread_id,
            token=wish.token,
            batch_id=result.batch_id,
            now_ms=int(now),
            until_ms=int(until),
            needs_guard=wish.needs_guard,
            state=DeliveryState(),
            reply=WaitingReply(result=result, since_ms=int(now), preview=preview),
        )
    return Ended(has_pending=word == "pending", delivery=delivery)


def _result_args(
    namespace: Namespace, lease: Lease, result: RunResult, anchor: str | None, rules: ResultRules
) -> dict[str, Any]:
    return {
        "result": to_json(dump_result(result)),
        "account": to_json(
            dump_account(
                tenant=result.tenant,
                model=result.model,
                timeline=result.timeline,
                keep_text=rules.keep_text,
                answered_by=result.answered_by,
            )
        ),
        "result_ttl_ms": max(to_ms(rules.result_ttl_s), 1),
        "keep_text": "1" if rules.keep_text else "",
        "anchor": anchor or "",
        "done": namespace.keys.done(lease.thread_id),
    }


def finish(
    namespace: Namespace,
    lease: Lease,
    *,
    guard_id: str,
    result: RunResult,
    anchor: str | None,
    rules: ResultRules,
    tools: Sequence[ToolRow] = (),
    shown: Sequence[str] = (),
    delivery: DeliveryWish | None = None,
    preview: str | None = None,
    is_lost: bool = False,
    seen: Wish | None = None,
) -> Operation[Ended]:
    """Store the results, drop the batch, release the lease; the reply joins the outbox.

    `tools` are the calls of tools, `shown` the ids of the answer's items, for the journal.
    `delivery` is None for a queue that delivers nothing. `preview` is the platform's message that
    shows half of the reply. `is_lost`: results that version 0.1 stored cannot be read any more.
    """
    sent = _delivery_args(delivery, result, preview)
    reply = yield namespace.call(
        "finish",
        lease.thread_id,
        keys={"record": namespace.keys.record(result.batch_id), "guard": wakeups.job_key(guard_id)},
        rest=message_keys(namespace, result.message_ids),
        token=lease.token,
        seen=seen or "",
        guard_id=guard_id,
        lost="1" if is_lost else "",
        journal=(
            dump_batch(of_result(result, tools, has_delivery=delivery is not None, shown=shown))
            if namespace.journal.most
            else ""
        ),
        counts=namespace.counted(
            lambda: measures.batch_answered(lease.claimed, result, delivers=delivery is not None)
        ),
        **_result_args(namespace, lease, result, anchor, rules),
        **sent,
        **audit_codec.pack_batch(namespace.audit, result, tools, packed=sent["reply"]),
    )
    return _ended(reply, lease, delivery, result, preview)


def _failed_result(
    lease: Lease,
    progress: Progress,
    timeline: Timeline,
    *,
    taken: int,
    fallback: str | None,
    ended_ms: int,
) -> RunResult:
    """Return a batch that failed in the form of an answered one, for the audit.

    `taken`: its messages; those after them were left to the next batch.
    """
    claimed = lease.claimed.batch
    batch = replace(claimed, messages=claimed.messages[:taken])
    replies = (fallback,) if fallback is not None else progress.replies
    return RunResult(
        thread_id=lease.thread_id,
        run_id=progress.run_id or "",
        batch_id=batch.id,
        message_ids=tuple(message.id for message in batch.messages),
        messages_processed=len(batch.messages),
        status="failed",
        incomplete_reason=None,
        reply="\n\n".join(replies) or None,
        replies=replies,
        usage=progress.usage,
        attempts=progress.attempts,
        started_at=moment(lease.claimed.claimed_ms),
        ended_at=moment(ended_ms),
        fallback=fallback is not None,
        messages=batch.messages,
        tenant=batch.tenant,
        timeline=timeline,
    )


def stopped(
    namespace: Namespace,
    lease: Lease,
    *,
    guard_id: str,
    result: RunResult,
    anchor: str | None,
    keep_anchor: bool,
    open_calls: Sequence[str],
    rules: ResultRules,
    tools: Sequence[ToolRow] = (),
) -> Operation[None]:
    """End a batch that was to be stopped: its messages are cancelled, nothing is delivered.

    `result` has what was said so far. `keep_anchor` is for a batch of which no part is in the
    conversation; `open_calls` are those that the conversation's next batch answers.
    """
    reply = yield namespace.call(
        "stopped",
        lease.thread_id,
        keys={"record": namespace.keys.record(result.batch_id), "guard": wakeups.job_key(guard_id)},
        rest=message_keys(namespace, result.message_ids),
        token=lease.token,
        guard_id=guard_id,
        keep_anchor="1" if keep_anchor else "",
        open=json.dumps(list(open_calls), ensure_ascii=False) if open_calls else "",
        journal=(
            dump_batch(of_result(result, tools, has_delivery=False))
            if namespace.journal.most
            else ""
        ),
        counts=namespace.counted(lambda: measures.batch_stopped(lease.claimed, result)),
        reply="",
        **_result_args(namespace, lease, result, anchor, rules),
        **audit_codec.pack_batch(namespace.audit, result, tools),
    )
    check(text(reply[0]), lease.thread_id)


def bury(
    namespace: Namespace,
    lease: Lease,
    guard_id: str,
    *,
    reason: str,
    error: ErrorInfo,
    progress: Progress,
    message_ids: Sequence[str],
    open_calls: Sequence[str],
    pause: bool,
    ended_ms: int,
    keep_anchor: bool = False,
    fallback: str | None = None,
    result: RunResult | None = None,
    delivery: DeliveryWish | None = None,
    seen: Wish | None = None,
) -> Operation[Ended]:
    """Move the batch to the failed list and release the lease; a fallback joins the outbox.

    `result` is the fallback's. `ended_ms` is now, by the store's clock, for the journal.

    `keep_anchor` is for a batch of which no part can be in the conversation.
    """
    failure: dict[str, Any] = {
        "reason": reason,
        "error": dump_error(error),
        "attempts": progress.attempts,
        "known_run_id": progress.run_id,
        "message_ids": list(message_ids),
        "held": progress.already_in_thread,
    }
    if progress.stored:
        failure["stored"] = progress.stored
    if fallback is not None:
        failure["fallback"] = fallback
    claimed = lease.claimed
    batch_id = claimed.batch.id
    timeline = timeline_of(
        claimed.batch.messages, progress, claimed_ms=claimed.claimed_ms, due_ms=claimed.due_ms
    )
    failure["account"] = dump_account(
        tenant=claimed.batch.tenant, model=None, timeline=timeline, keep_text=True
    )
    if progress.usage is not None:
        failure["usage"] = dump_usage(progress.usage)
    journal = ""
    if namespace.journal.most:
        ended = of_failure(
            batch_id,
            message_ids,
            progress,
            timeline=timeline,
            tenant=claimed.batch.tenant,
            reason=reason,
            error=error,
            ended_ms=ended_ms,
            has_delivery=delivery is not None and result is not None,
            messages=claimed.batch.messages,
        )
        journal = dump_batch(ended)
    reply = yield namespace.call(
        "bury",
        lease.thread_id,
        keys={
            "record": namespace.keys.record(batch_id),
            "dead": namespace.keys.dead(batch_id),
            "guard": wakeups.job_key(guard_id),
        },
        rest=message_keys(namespace, message_ids),
        token=lease.token,
        seen=seen or "",
        failure=to_json(failure),
        pause="1" if pause else "",
        keep_anchor="1" if keep_anchor else "",
        done=namespace.keys.done(lease.thread_id),
        open=json.dumps(list(open_calls), ensure_ascii=False) if open_calls else "",
        guard_id=guard_id,
        journal=journal,
        counts=namespace.counted(
            lambda: measures.batch_failed(
                claimed,
                progress,
                error.code,
                message_ids,
                delivers=delivery is not None and result is not None,
            )
        ),
        **_delivery_args(delivery, result),
        **audit_codec.pack_batch(
            namespace.audit,
            _failed_result(
                lease,
                progress,
                timeline,
                taken=len(message_ids),
                fallback=fallback,
                ended_ms=ended_ms,
            ),
            progress.tools,
            reason=reason,
            error=error,
        ),
    )
    return _ended(reply, lease, delivery, result)
