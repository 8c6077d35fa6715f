"""Verdicts on batches that ended, and on their replies. Pure."""

from __future__ import annotations

from dataclasses import replace

from assistant_queue.core.explaining.explanation import (
    Judgement,
    clock_time,
    error_words,
    for_so_long,
    in_future,
)
from assistant_queue.core.explaining.facts import MessageFacts
from assistant_queue.core.explaining.of_workers import (
    is_dead,
    no_worker,
    paused_verdict,
    person_words,
    workers_words,
)
from assistant_queue.core.failure_table import REASONS
from assistant_queue.core.progress import load_error
from assistant_queue.models import ErrorInfo, ExplanationVerdict


def idle(facts: MessageFacts) -> Judgement:
    """Return the verdict on a thread without any work."""
    paused = paused_verdict(facts)
    note = "it is paused" if paused is not None else person_words(facts)
    return Judgement(
        verdict=ExplanationVerdict.IDLE,
        because=("no message waits, no batch runs, and no reply waits for its delivery", note),
    )


def stopped(facts: MessageFacts) -> Judgement:
    """Return the verdict on a message of a batch that was stopped."""
    result = facts.outcome.result
    ended_ms = round(result.ended_at.timestamp() * 1000) if result else 0
    when = f" at {clock_time(ended_ms)}" if ended_ms else ""
    said = "what was said so far is its reply" if result and result.reply else ""
    return Judgement(
        verdict=ExplanationVerdict.STOPPED,
        because=(f"its batch was stopped{when}, and its messages were cancelled", said),
        since_ms=ended_ms,
        batch_id=facts.batch_id,
        evidence={
            "run_id": result.run_id if result else None,
            "attempts": result.attempts if result else None,
        },
    )


def ended(facts: MessageFacts) -> Judgement:
    """Return the verdict on a batch that has an outcome."""
    outcome = facts.outcome
    if outcome.state == "completed":
        return _completed(facts)
    failure = outcome.failure
    reason = str(failure.get("reason", ""))
    error = _error_of(facts)
    verdict = (
        ExplanationVerdict.DISCARDED
        if outcome.state == "discarded"
        else ExplanationVerdict.PARKED
        if reason == "parked"
        else ExplanationVerdict.FAILED
    )
    fallback = "" if failure.get("fallback") is None else "the fallback was given as its reply"
    return Judgement(
        verdict=verdict,
        because=(
            _failed_at(outcome.failed_ms, reason),
            REASONS.get(reason, "").replace("`", ""),
            f"the last error is {error_words(error)}",
            fallback,
        ),
        since_ms=outcome.failed_ms,
        batch_id=facts.batch_id,
        error=error,
        evidence={
            "reason": reason,
            "attempts": failure.get("attempts"),
            "run_id": failure.get("known_run_id"),
            "delivery": outcome.delivery if fallback else None,
        },
    )


def _failed_at(failed_ms: int, reason: str) -> str:
    when = f" at {clock_time(failed_ms)}" if failed_ms else ""
    return f"it failed{when} as {reason}" if reason else f"it failed{when}"


def _error_of(facts: MessageFacts) -> ErrorInfo | None:
    plain = facts.outcome.failure.get("error")
    return load_error(plain) if isinstance(plain, dict) else None


def _completed(facts: MessageFacts) -> Judgement:
    outcome = facts.outcome
    if outcome.delivery in {"undelivered", "unknown"}:
        return _parked_reply(facts)
    if outcome.delivery == "pending":
        return in_outbox(facts)
    result = outcome.result
    found = Judgement(
        verdict=ExplanationVerdict.ANSWERED,
        because=("the result is stored", "the worker has no on_reply and no channel for it"),
        batch_id=facts.batch_id,
        evidence={
            "run_id": result.run_id if result else None,
            "attempts": result.attempts if result else None,
        },
    )
    if result is not None:
        ended_ms = round(result.ended_at.timestamp() * 1000)
        what = f"run {result.run_id} ended" if result.run_id else "it was said"
        if not result.run_id and result.reply is None:
            return replace(
                found,
                verdict=ExplanationVerdict.WRITTEN,
                because=(
                    f"it was written there at {clock_time(ended_ms)}",
                    "it wants no reply, or was said by a program",
                ),
                since_ms=ended_ms,
            )
        because = (f"{what} at {clock_time(ended_ms)}", *found.because[1:])
        found = replace(found, since_ms=ended_ms, because=because)
        if result.reply is None:
            why = f"its status is {result.status}"
            if result.incomplete_reason:
                why += f" ({result.incomplete_reason})"
            return replace(
                found,
                verdict=ExplanationVerdict.EMPTY_REPLY,
                because=(found.because[0], "without a text", why),
            )
    if outcome.delivery == "delivered":
        at_ms = outcome.delivered_ms
        when = f"at {clock_time(at_ms)}" if at_ms else "at a time that is not known"
        return replace(
            found,
            verdict=ExplanationVerdict.DELIVERED,
            because=(found.because[0], f"the delivery was confirmed {when}"),
            since_ms=at_ms,
        )
    return found


def _parked_reply(facts: MessageFacts) -> Judgement:
    outcome = facts.outcome
    error = _error_of(facts)
    is_unknown = outcome.delivery == "unknown"
    tries = outcome.failure.get("attempts")
    return Judgement(
        verdict=ExplanationVerdict.DELIVERY_UNKNOWN
        if is_unknown
        else ExplanationVerdict.UNDELIVERED,
        because=(
            f"it is in the failed list since {clock_time(outcome.failed_ms)}"
            if outcome.failed_ms
            else "it is not delivered again",
            f"the last error is {error_words(error)}",
        ),
        since_ms=outcome.failed_ms,
        batch_id=facts.batch_id,
        error=error,
        evidence={"tries": tries, "reason": outcome.failure.get("reason")},
    )


def _ended(facts: MessageFacts) -> str:
    """Return what became of the message whose reply waits."""
    outcome = facts.outcome
    is_said = outcome.state == "completed" and outcome.result and not outcome.result.run_id
    return "it was said" if is_said else "it was answered"


def in_outbox(facts: MessageFacts) -> Judgement:
    """Return the verdict on a reply that waits for its delivery."""
    outbox = facts.outbox
    now = facts.now_ms
    paused = paused_verdict(facts)
    if paused is not None:
        return replace(paused, because=(_ended(facts), *paused.because), batch_id=facts.batch_id)
    if outbox.is_hidden or not outbox.waiting:
        hidden = "this user of Redis may not look at the outbox"
        return Judgement(
            verdict=ExplanationVerdict.DELIVERY_WAITS,
            because=(hidden if outbox.is_hidden else "the outbox does not hold it any more",),
            batch_id=facts.batch_id,
        )
    is_head = outbox.batch_id in {"", facts.batch_id}
    error = outbox.state.error
    tries = outbox.state.tries + outbox.state.refusals
    found = Judgement(
        verdict=ExplanationVerdict.DELIVERY_WAITS,
        because=(),
        batch_id=facts.batch_id,
        error=error,
        evidence={"tries": tries or None, "waiting": outbox.waiting, "is_behind": not is_head},
    )
    before = "" if is_head else f"the reply of batch {outbox.batch_id} is before it"
    failed = f"{tries} tries failed, the last with {error_words(error)}" if error else ""
    if outbox.is_call_open:
        return replace(
            found,
            verdict=ExplanationVerdict.USER_CODE,
            because=(
                _ended(facts),
                before,
                "a call of on_reply exceeded callback_timeout and is still running",
            ),
            evidence={**found.evidence, "function": "on_reply"},
        )
    if outbox.is_leased and outbox.until_ms > now:
        since = for_so_long(outbox.seen_ms, now) if outbox.seen_ms else ""
        return replace(
            found,
            verdict=ExplanationVerdict.DELIVERING if is_head else ExplanationVerdict.DELIVERY_WAITS,
            because=(before, f"a worker delivers {since}".rstrip(), failed),
            since_ms=outbox.seen_ms,
        )
    if outbox.is_leased:
        return replace(
            found,
            verdict=ExplanationVerdict.WORKER_LOST,
            because=(
                before,
                f"the worker that delivered is lost {for_so_long(outbox.until_ms, now)}",
                failed,
            ),
            since_ms=outbox.until_ms,
        )
    if outbox.due_ms > now:
        return replace(
            found,
            verdict=ExplanationVerdict.DELIVERY_RETRYING
            if is_head
            else ExplanationVerdict.DELIVERY_WAITS,
            because=(before, failed, f"the next try is at {in_future(outbox.due_ms, now)}"),
            since_ms=outbox.seen_ms,
            until_ms=outbox.due_ms,
        )
    what = f"the delivery is due {for_so_long(outbox.due_ms, now)}"
    if is_dead(facts.workers, now - outbox.due_ms, now):
        dead = no_worker(facts, outbox.due_ms, what)
        return replace(dead, because=(_ended(facts), before, *dead.because), error=error)
    return replace(
        found,
        because=(before, what, failed, workers_words(facts.workers, now)),
        since_ms=outbox.due_ms,
    )
