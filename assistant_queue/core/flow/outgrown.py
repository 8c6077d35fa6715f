"""Remedies for a conversation that the model cannot read.

1. A run that failed for its length is started again at once, over less of the conversation, as
   long as the backend can shorten it.
2. Else the conversation is begun anew with the later half of its turns, and the batch is sent
   there; again, until it fits.
3. So is one with calls that were left open, if the provider does not take their outputs together
   with the batch.
4. A batch that is refused all the same goes to the failed list, and the thread back to the
   conversation it had.

`core/failure_table.py` says which failure leads here.
"""

from __future__ import annotations

from assistant_queue.core import steps
from assistant_queue.core.flow.context import BatchContext, Flow
from assistant_queue.core.flow.outcome import bury
from assistant_queue.core.flow.retrying import forget_run, try_again, try_at_once
from assistant_queue.core.runs import FoundBy
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import BackendError
from assistant_queue.models import ErrorInfo


def shorten(ctx: BatchContext, info: ErrorInfo) -> Flow:
    """Start another run at once, over less of the conversation."""
    ctx.progress.shortened += 1
    leave_run(ctx)
    return (yield from try_at_once(ctx, info))


def leave_run(ctx: BatchContext) -> None:
    """Forget a run that failed for its length.

    A response that failed has taken neither the batch nor the outputs that it was given: they are
    sent again without a question.
    """
    progress = ctx.progress
    given = progress.submitted if ctx.capabilities.found_by is FoundBy.ANCHOR else ()
    forget_run(ctx)
    if given:
        progress.calls = given
        ctx.unanswered = tuple(call.id for call in given)
    elif not progress.rounds:
        ctx.phase = Phase.FROZEN


def renew(ctx: BatchContext, info: ErrorInfo) -> Flow:
    """Begin the conversation anew and try again at once.

    Nothing is written before the move: a worker that dies until then leaves a batch that is
    found, or sent, where it was. The move writes how far the batch got in the same step: the
    end of the new conversation is never looked for in the old one.
    """
    progress = ctx.progress
    old_id = ctx.sent.conversation_id
    try:
        renewed = yield steps.RenewConversation(request=ctx.sent, calls=progress.calls)
    except BackendError as error:
        if not error.retryable:
            return (yield from refuse(ctx, info))
        failed = ErrorInfo(code=error.code, message=str(error))
        again = try_again(ctx, failed, counts=error.counts, retry_after_s=error.retry_after_s)
        return (yield from again)
    if renewed is None:
        return (yield from refuse(ctx, info))
    conversation_id, progress.anchor = renewed
    progress.already_in_thread = False  # the batch's own texts are in the old conversation
    if ctx.capabilities.found_by is FoundBy.METADATA:
        progress.stored = 0  # and those with its mark are not carried over
    progress.error = info
    is_first = progress.origin is None
    progress.origin = progress.origin or old_id
    moved = yield steps.MoveThread(
        old_id=old_id,
        conversation_id=conversation_id,
        anchor=progress.anchor,
        phase=ctx.phase,
        progress=progress,
        is_new=True,
        drops_old=not is_first,
    )
    if not moved:
        # The thread has been given another conversation meanwhile: the end of that one is asked
        # for.
        progress.located = False
        progress.anchor = None
        progress.origin = None
    return (yield from try_at_once(ctx, info))


def refuse(ctx: BatchContext, info: ErrorInfo) -> Flow:
    """Bury a batch that would be refused again, and give the thread its old conversation back.

    A batch that is too long by itself, or was refused for another reason after all, costs the
    thread nothing that it remembers.
    """
    progress = ctx.progress
    if progress.origin is not None:
        origin, progress.origin = progress.origin, None
        progress.burying = "refused"
        progress.error = info
        yield steps.MoveThread(
            old_id=ctx.sent.conversation_id,
            conversation_id=origin,
            anchor=None,
            phase=ctx.phase,
            progress=progress,
            drops_old=True,
        )
    return (yield from bury(ctx, "refused", info))
