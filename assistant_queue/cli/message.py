"""`assistant-queue message`: the state of one message, its times, and the attempts at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime

import click

from assistant_queue.accounting import AttemptInfo, Timeline, Usage
from assistant_queue.cli.dashed_arguments import Command
from assistant_queue.cli.exit_errors import Problem
from assistant_queue.cli.output import echo_json, echo_lines, json_option, shorten
from assistant_queue.cli.shared_options import Where, where_options
from assistant_queue.models import MessageStatus

_WIDTH = 100
"""Characters of a reply or an error. Chosen: one line."""


@click.command(cls=Command, short_help="Show one message: its state, times, attempts and tokens.")
@click.argument("message_id")
@json_option
@where_options
def message(*, message_id: str, where: Where, as_json: bool) -> None:
    """Show a message: its state, when what happened to it, the attempts, and the reply.

    Times are those of Redis, each with the time since the message was added. If there is no answer,
    assistant-queue explain ID says why.

    \b
    assistant-queue message 5f3a09c1d2e4
    assistant-queue message 5f3a09c1d2e4 --json

    Exit codes: 0 shown, 1 unknown, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        found = queue.get_message(message_id)
    if found is None:
        raise Problem(
            f"there is no message {message_id}: it was never added here, or its record has expired "
            "(result_ttl)"
        )
    if as_json:
        echo_json(found)
        return
    echo_lines(_lines(found))


def _lines(found: MessageStatus) -> Iterator[str]:
    names = {"thread": found.thread_id, "batch": found.batch_id, "run": found.run_id}
    where = ", ".join(f"{name} {value}" for name, value in names.items() if value)
    delivery = "" if found.delivery == "none" else f", delivery {found.delivery}"
    yield f"{found.message_id}: {found.status}{delivery}, {where}"
    labels = {"author": found.author, "tenant": found.tenant, **found.metadata}
    said = ", ".join(f"{name} {value}" for name, value in labels.items() if value)
    if said:
        yield f"  {said}"
    yield from _times(found.timeline)
    for attempt in found.timeline.attempts:
        yield _attempt(attempt)
    if found.usage is not None:
        yield f"  tokens    {_tokens(found.usage)}"
    if found.error is not None:
        yield f"  error     {found.error.code}: {shorten(found.error.message, _WIDTH)}"
    if found.reply is not None:
        mark = " (the fallback)" if found.fallback else ""
        yield f"  < {shorten(found.reply, _WIDTH)}{mark}"


def _times(timeline: Timeline) -> Iterator[str]:
    start = timeline.queued_at
    for one in fields(Timeline):
        at = getattr(timeline, one.name)
        if isinstance(at, datetime):
            since = "" if start is None else f"  {(at - start).total_seconds():+.3f} s"
            yield f"  {one.name.removesuffix('_at').replace('_', ' '):<11} {_stamp(at)}{since}"


def _attempt(attempt: AttemptInfo) -> str:
    took = ""
    if attempt.ended_at is not None:
        took = f", {(attempt.ended_at - attempt.started_at).total_seconds():.3f} s"
    by = f", worker {attempt.worker}" if attempt.worker else ""
    run = f", run {attempt.run_id}" if attempt.run_id else ""
    error = attempt.error
    why = f": {error.code} {shorten(error.message, _WIDTH)}".rstrip() if error else ""
    return f"  attempt {attempt.number}   {_stamp(attempt.started_at)}{took}{by}{run}{why}"


def _tokens(usage: Usage) -> str:
    return (
        f"{usage.input_tokens} in ({usage.cached_input_tokens} cached), "
        f"{usage.output_tokens} out, {usage.rounds} round(s)"
    )


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC"
