"""Request of a batch: the messages that fit, the conversation and its end, the instructions."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.batching import Fit, fit, instructions_of, of_one_author, within
from assistant_queue.core.failure_table import Park
from assistant_queue.core.flow.context import AuthorRule, BatchContext, Steps
from assistant_queue.core.flow.user_code import enter_user_code, leave_user_code
from assistant_queue.core.runs import FoundBy, InputItem, RunRequest
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import NotSupported

MAX_WRITTEN = 15
"""Items that are written to a conversation at once. Source: the provider takes 20 in one call; the
rest is for outputs of calls that were left open."""


def prepare(ctx: BatchContext) -> Steps:
    """Make the request.

    Raises:
        NotSupported: The backend cannot write a reply of `say`, and another one was configured
            where it was said.
    """
    progress = ctx.progress
    stateless = ctx.capabilities.stateless
    if ctx.phase is Phase.FROZEN and not ctx.is_stopping:
        progress.forget_rounds()
    items = yield from _fitting_items(ctx)
    writes = ctx.writes
    if not ctx.capabilities.writes and any(item.role == "assistant" for item in items):
        raise NotSupported(
            "the backend of this worker cannot write a reply of say() to its conversation"
        )
    conversation_id = yield from _conversation(ctx)
    ctx.request = RunRequest(
        batch=replace(ctx.batch, attempts=progress.attempts + 1),
        conversation_id=conversation_id or "",
        anchor=ctx.claimed.anchor if stateless else progress.anchor,
        items=() if progress.already_in_thread else items,
        instructions=None if writes or ctx.is_stopping else (yield from _instructions(ctx)),
        open_calls=ctx.claimed.open_calls,
        carried=progress.carried or "",
        deadline_s=ctx.rules.run_timeout_s,
        again=progress.attempts + progress.refusals + progress.failures > 0,
        shortened=progress.shortened,
        renewed=progress.origin is not None,
        writes=writes,
        cut=progress.cut,
        joined=progress.interrupts > 0,
        steered=items_from(ctx, progress.begun) if progress.has_joined else (),
    )


def _fitting_items(ctx: BatchContext) -> Generator[steps.Step, Any, tuple[InputItem, ...]]:
    """Give back what one request does not take; return the items of the rest."""
    if ctx.is_fresh and not ctx.is_stopping:
        yield from keep(ctx, (yield from leading(ctx)))
    fitting = _fit(ctx)
    if (
        not ctx.is_stopping
        and not ctx.progress.has_joined
        and fitting.taken < len(ctx.batch.messages)
    ):
        # Only before the first request can it not fit: what is frozen after that was made to.
        yield from keep(ctx, fitting.taken)
        # A worker that resumes sees only these: what is sent must be what it would send, or it is
        # not recognised.
        fitting = _fit(ctx)
    return fitting.items


def keep(ctx: BatchContext, count: int) -> Steps:
    """Give all but the first messages back to the thread."""
    if count < len(ctx.batch.messages):
        yield steps.Trim(keep=count)
        ctx.batch = replace(ctx.batch, messages=ctx.batch.messages[:count])


def leading(ctx: BatchContext) -> Generator[steps.Step, Any, int]:
    """Return how many messages the options let into one batch."""
    rules = ctx.rules
    messages = ctx.batch.messages
    count = len(messages)
    if rules.max_batch_chars is not None:
        count = within(messages, rules.max_batch_chars, cuts_quiet=ctx.capabilities.writes)
    if rules.authors is AuthorRule.SHARE:
        return count
    alone = of_one_author(messages)
    if alone < count and rules.authors is AuthorRule.ASK:
        yield from enter_user_code(ctx, "separate_authors")
        alone = yield steps.Separate(batch=ctx.batch)
        leave_user_code(ctx)
    return min(count, alone)


def _fit(ctx: BatchContext) -> Fit:
    most = ctx.capabilities.max_items
    if ctx.writes:
        most = min(most or MAX_WRITTEN, MAX_WRITTEN)
    progress = ctx.progress
    messages = ctx.batch.messages[: progress.begun if progress.has_joined else None]
    held = (replace(message, held=True) for message in messages[: progress.stored])
    return fit(
        (*held, *messages[progress.stored :]),
        max_items=most,
        max_item_chars=ctx.capabilities.max_item_chars,
    )


def items_from(ctx: BatchContext, first: int) -> tuple[InputItem, ...]:
    """Return the items of messages that have joined the batch after its run had begun."""
    return fit(ctx.batch.messages[first:], max_items=None, max_item_chars=None).items


def _conversation(ctx: BatchContext) -> Generator[steps.Step, Any, str | None]:
    """Return the conversation, created at the thread's first batch; note its end."""
    progress = ctx.progress
    capabilities = ctx.capabilities
    conversation_id = ctx.known_conversation()
    if progress.located and conversation_id is None and capabilities.conversations:
        raise Park(
            "the conversation that the batch was to be sent to, or was, is not known any more:"
            " another program removed it from Redis"
        )
    if progress.located or capabilities.stateless:
        return conversation_id  # with a history in Redis, what the claim read is the end
    progress.anchor = ctx.claimed.anchor
    if conversation_id is None and capabilities.conversations:
        conversation_id, progress.anchor = yield steps.OpenConversation()
        ctx.opened = conversation_id
    elif progress.anchor is None and capabilities.found_by is FoundBy.ANCHOR:
        progress.anchor = yield steps.Locate(conversation_id=conversation_id or "")
    progress.located = True
    return conversation_id


def _instructions(ctx: BatchContext) -> Generator[steps.Step, Any, str | None]:
    """Return the messages' own instructions, else the default of the options or the callable."""
    own = instructions_of(ctx.batch.messages)
    if own is not None:
        return own
    default = ctx.rules.instructions
    if not isinstance(default, bool):
        return default
    if not default:
        return None
    if ctx.phase is Phase.FROZEN:
        # In a later phase the next step is not stored in any case, so nothing would take this back.
        yield from enter_user_code(ctx, "default_instructions")
    asked: str | None = yield steps.Instruct(batch=ctx.batch)
    leave_user_code(ctx)
    return asked
