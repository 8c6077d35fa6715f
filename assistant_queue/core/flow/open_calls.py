"""Calls that are answered from outside: which they are, and what came of them.

A round with open calls is kept as `Progress.asked`, whatever the provider keeps: a worker that
resumes asks for nothing again.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.flow.context import BatchContext, Steps
from assistant_queue.core.flow.user_code import enter_user_code, leave_user_code
from assistant_queue.core.runs import ActionRequired, Asked, FoundBy
from assistant_queue.core.settlements import Settlement, SettlementKind, public_id
from assistant_queue.core.stored_rows import SettledRow, ToolRow, WaitRow
from assistant_queue.core.thread_state import Phase
from assistant_queue.models import FunctionCall, ToolCall


class RoundOpen(Exception):
    """The round cannot be submitted yet: some of its calls are open."""


def answer_calls(ctx: BatchContext, event: ActionRequired, run_id: str) -> Steps:
    """Call the functions of a round that are not answered from outside, or were approved.

    Raises:
        RoundOpen: Some of the calls are open.
    """
    progress = ctx.progress
    if progress.asked is not event:
        progress.gave_away = False
    if ctx.capabilities.keeps_rounds:
        # Before any function is called: these calls and their ids are kept nowhere else.
        progress.asked = event
    known = {row.call_id for row in progress.waits}
    _note_open(ctx, tuple(one for one in event.open if one.call_id not in known), is_guests=True)
    waits = {row.call_id: row for row in progress.waits}
    to_call = [one for one in event.calls if one.id not in progress.outputs | waits]
    approved: dict[str, str] = {}
    if any(one.id in waits and one.id not in progress.outputs for one in event.calls):
        found = yield from _settled(ctx, event)
        to_call += found.keys()
        approved = {call.id: settlement.by or "" for call, settlement in found.items()}
    if to_call:
        calls = tuple(to_call)
        yield from enter_user_code(ctx, "", calls)
        answered: steps.ToolsAnswered = yield steps.Answer(
            batch=ctx.batch, run_id=run_id, calls=calls, approved=approved
        )
        progress.outputs.update(answered.outputs)
        progress.tools = (*progress.tools, *_with_verdicts(ctx, answered.rows))
        _note_open(ctx, answered.open)
        leave_user_code(ctx)
    if any(one.id not in progress.outputs for one in event.calls):
        progress.asked = event
        raise RoundOpen
    progress.gave_away = _gives_away_calls(ctx)


def _settled(
    ctx: BatchContext, event: ActionRequired
) -> Generator[steps.Step, Any, dict[ToolCall, Settlement]]:
    """Note the outputs of calls that were settled; return those that were approved."""
    progress = ctx.progress
    open_rows = [
        row for row in progress.waits if row.is_listed and row.call_id not in progress.outputs
    ]
    if not open_rows:
        return {}
    now = ctx.now_ms()
    settlements: dict[str, Settlement] = yield steps.ReadSettlements(
        ids=tuple(row.id for row in open_rows),
        expired=tuple(row.id for row in open_rows if row.until_ms <= now),
    )
    calls = {call.id: call for call in event.calls}
    approved: dict[ToolCall, Settlement] = {}
    for row in open_rows:
        settlement = settlements.get(row.id)
        if settlement is None or row.call_id not in calls:
            continue
        _note_settled(ctx, row, settlement)
        if settlement.kind is SettlementKind.APPROVED and not row.is_guests:
            call = calls[row.call_id]
            if settlement.arguments is not None:
                changed = FunctionCall(name=call.function.name, arguments=settlement.arguments)
                call = replace(call, function=changed)
            approved[call] = settlement
        else:
            progress.outputs[row.call_id] = (
                settlement.dump() if row.is_guests else output_of(settlement)
            )
            is_output = settlement.kind in {SettlementKind.ANSWERED, SettlementKind.APPROVED}
            made = ToolRow(
                name=calls[row.call_id].function.name,
                ms=0,
                error="" if is_output else settlement.kind.value,
                call_id=row.call_id,
            )
            progress.tools = (*progress.tools, *_with_verdicts(ctx, (made,)))
    return approved


def _with_verdicts(ctx: BatchContext, rows: Sequence[ToolRow]) -> tuple[ToolRow, ...]:
    """Return calls with how they were settled, if they were."""
    settled = {one.call_id: one for one in ctx.progress.settled}
    return tuple(
        replace(row, verdict=known.kind, by=known.by, settled_ms=known.at_ms)
        if (known := settled.get(row.call_id))
        else row
        for row in rows
    )


def _note_settled(ctx: BatchContext, row: WaitRow, settlement: Settlement) -> None:
    progress = ctx.progress
    known = SettledRow(
        call_id=row.call_id,
        kind=settlement.kind.value,
        by=settlement.by or "",
        at_ms=settlement.at_ms,
    )
    if known not in progress.settled:
        progress.settled = (*progress.settled, known)


def output_of(settlement: Settlement) -> str:
    """Return the output of a call that was settled, and whose function is not called."""
    if settlement.kind is SettlementKind.ANSWERED and settlement.output is not None:
        return settlement.output
    if settlement.kind is SettlementKind.EXPIRED:
        return json.dumps({"error": "the function was not called: no answer came in time"})
    reason = f": {settlement.reason}" if settlement.reason else ""
    return json.dumps(
        {"error": f"the function was not called: it was denied{reason}"}, ensure_ascii=False
    )


def _gives_away_calls(ctx: BatchContext) -> bool:
    """Whether approved calls of the round are made by the backend, with the round's outputs."""
    by_guest = {row.call_id for row in ctx.progress.waits if row.is_guests}
    approved = SettlementKind.APPROVED.value
    return any(row.kind == approved and row.call_id in by_guest for row in ctx.progress.settled)


def _note_open(ctx: BatchContext, asked: tuple[Asked, ...], *, is_guests: bool = False) -> None:
    """Note calls that are answered from outside from now on."""
    progress = ctx.progress
    until_ms = ctx.now_ms() + round(ctx.rules.approval_timeout_s * 1000)
    known = {row.id for row in progress.waits}
    rows = []
    for one in asked:
        name = public_id(one.call_id, ctx.batch.id)
        if name in known:  # approved, and answered later
            name = public_id(f"{one.call_id}-answer", ctx.batch.id)
        rows.append(
            WaitRow(
                call_id=one.call_id,
                id=name,
                kind=one.kind,
                until_ms=until_ms,
                question=one.question or "",
                is_guests=is_guests,
            )
        )
    again = {row.call_id for row in rows}
    progress.waits = (*(row for row in progress.waits if row.call_id not in again), *rows)


def resume(ctx: BatchContext) -> ActionRequired | None:
    """Return the round over which the batch is, or was, parked; None if it is not.

    The time for which it was parked is no time of the run. A backend that `resumes` has its calls
    answered from here, too, if a worker died meanwhile.
    """
    progress = ctx.progress
    is_answering = ctx.capabilities.resumes and ctx.phase is not Phase.FROZEN
    if progress.asked is None or not (progress.waits or is_answering):
        return None
    if progress.parked_ms and progress.deadline_ms:
        progress.deadline_ms += max(ctx.now_ms() - progress.parked_ms, 0)
    progress.parked_ms = 0
    if progress.deadline_ms <= ctx.now_ms():
        # As for a run that is found to wait for outputs: the functions get the time of a run.
        ctx.new_deadline()
    if not progress.detached:
        ctx.unanswered = tuple(call.id for call in progress.asked.calls)
    return progress.asked


def take_up_round(ctx: BatchContext) -> None:
    """Have the outputs of the last round submitted once more, if it is stored here."""
    progress = ctx.progress
    if not ctx.capabilities.resumes:
        return
    if not progress.calls:
        progress.calls, progress.submitted = progress.submitted, ()
    if progress.calls:
        progress.attempts += 1
        ctx.new_deadline()
        ctx.request = replace(
            ctx.sent, batch=replace(ctx.sent.batch, attempts=progress.attempts + 1)
        )


def forget_rounds(ctx: BatchContext) -> None:
    """Forget the rounds that are stored: another run may give its calls the same ids."""
    if ctx.capabilities.resumes:
        ctx.progress.outputs = {}
        ctx.progress.submitted = ()
        ctx.progress.gave_away = False


def carry(ctx: BatchContext, calls: tuple[ToolCall, ...]) -> None:
    """Have the next run read calls with their outputs in words: the conversation lacks them."""
    progress = ctx.progress
    lines = [
        f"- {call.function.name}({call.function.arguments}) returned: {progress.outputs[call.id]}"
        for call in calls
        if call.id in progress.outputs
    ]
    if lines:
        known = f"{progress.carried}\n" if progress.carried else f"{_CARRIED}\n"
        progress.carried = known + "\n".join(lines)


_CARRIED = (
    "These functions were called for the last messages of the user. Do not call them again for"
    " the same purpose; answer with what they returned:"
)


def close_calls(ctx: BatchContext) -> Steps:
    """Remove the records of calls that need no answer any more; deny the open ones."""
    progress = ctx.progress
    if progress.waits:
        yield steps.CloseCalls(ids=tuple(row.id for row in progress.waits))
    progress.waits = ()
    progress.parked_ms = 0
    progress.detached = False


def withdraw_calls(ctx: BatchContext) -> Steps:
    """Deny the open calls of a batch that ends, or is interrupted."""
    progress = ctx.progress
    if not progress.waits:
        return
    resume(ctx)
    if progress.asked is not None and ctx.capabilities.found_by is FoundBy.METADATA:
        carry(ctx, progress.asked.calls)
    yield from close_calls(ctx)
    if not ctx.capabilities.stateless:
        progress.asked = None
