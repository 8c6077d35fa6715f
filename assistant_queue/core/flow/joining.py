"""Messages that wait join a batch that is under way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from assistant_queue.core import steps
from assistant_queue.core.failure_table import Park
from assistant_queue.core.flow.context import BatchContext, Steps
from assistant_queue.core.flow.preparation import items_from
from assistant_queue.core.wishes import Wish, Wished
from assistant_queue.models import Message


def revise(ctx: BatchContext) -> Steps:
    """Make the edits and removals of the batch's messages that were asked for.

    A text that the conversation holds stays there: an edited message goes with the new ones, to the
    end of the batch.

    Raises:
        Wished: No message that wants a reply would be left: the batch is stopped.
    """
    progress = ctx.progress
    if progress.calls:
        _mark_begun(ctx)
    before = (progress.stored, progress.begun, progress.given)
    begun_before = progress.begun_before
    has_joined = progress.has_joined
    while True:
        found: steps.Revisions = yield steps.ReadRevisions()
        if not found.messages:
            return
        messages, gone = _revised(ctx, found.messages)
        if not any(message.wants_reply for message in messages):
            raise Wished(Wish.STOP)
        progress.stored, progress.begun, progress.given = (
            count - sum(place < count for place in gone) for count in before
        )
        progress.begun_before = has_joined and not progress.begun
        done: bool = yield steps.Revise(
            phase=ctx.phase, progress=progress, messages=messages, revisions=found
        )
        if done:
            ctx.batch = replace(ctx.batch, messages=messages)
            return
        progress.stored, progress.begun, progress.given = before
        progress.begun_before = begun_before


def _revised(
    ctx: BatchContext, revisions: Mapping[str, Message | None]
) -> tuple[tuple[Message, ...], list[int]]:
    """Return the messages as they are to be, and the places that they left."""
    kept: list[Message] = []
    again: list[Message] = []
    gone: list[int] = []
    for place, message in enumerate(ctx.batch.messages):
        edited = revisions.get(message.id, message)
        if edited is not None and (edited is message or not _is_held(ctx, place)):
            kept.append(edited)
            continue
        gone.append(place)
        if edited is not None:
            again.append(edited)
    return (*kept, *again), gone


def _is_held(ctx: BatchContext, place: int) -> bool:
    """Whether the conversation, or the transcript of the rounds, has the message at this place."""
    progress = ctx.progress
    if ctx.capabilities.stateless:
        return progress.has_joined and progress.begun <= place < progress.given
    return place < max(progress.stored, progress.given)


def _mark_begun(ctx: BatchContext) -> None:
    """Note the messages that the rounds of the run have been given."""
    progress = ctx.progress
    if not progress.has_joined:
        progress.begun = progress.given = len(ctx.batch.messages)


def join(
    ctx: BatchContext, event: Literal["run_interrupted", "message_steered"], run_id: str = ""
) -> Steps:
    """Let the messages that wait join the batch, as far as the options let them: the store knows.

    If its run has rounds that stand, they go with the outputs of the next one; else with the batch.

    Raises:
        Park: Some of them cannot be read.
    """
    progress = ctx.progress
    if progress.calls:
        _mark_begun(ctx)
    joined: steps.Joined = yield steps.Join(
        phase=ctx.phase, progress=progress, event=event, run_id=run_id or progress.run_id or ""
    )
    ctx.batch = replace(ctx.batch, messages=joined.messages)
    if joined.unreadable:
        raise Park(f"{joined.unreadable} of the messages that joined it are not messages")
    if ctx.request is not None and progress.has_joined:
        ctx.request = replace(ctx.request, batch=ctx.batch, steered=items_from(ctx, progress.begun))
